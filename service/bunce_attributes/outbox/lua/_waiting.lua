-- Where waiting updates are put and how they become due; needs _common.lua.

-- Puts r (already in the rows hash under its place) where it is found again. A suspect, which goes alone, is never
-- put among the ready ones: `promote` makes a group of it.
local function schedule(digest, r, now, due, in_front)
  if due > now or r.max_rows > 0 then
    r.place = LATER
    redis.call('ZADD', K.later, due, digest)
  else
    r.place = READY
    redis.call(in_front and 'LPUSH' or 'RPUSH', lane_list(r.flags), entry(digest, due))
  end
end

local function new_group(digests, now, due, meta)
  local id = fresh_id(now)
  in_chunks(digests, function(...) redis.call('RPUSH', K.group .. id, ...) end)
  redis.call('HSET', K.groupmeta, id, cjson.encode(meta))
  redis.call('ZADD', K.groups, due, id)
end

local function new_halves(digests, now, due, meta)
  local half, root = math.ceil(#digests / 2), meta.root
  meta.root = root .. '/0'
  new_group(slice(digests, 1, half), now, due, meta)
  meta.root = root .. '/1'
  new_group(slice(digests, half + 1, #digests), now, due, meta)
end

-- Since when the first of a ready list has been due. One that becomes due only later was put there before the clock
-- was set back: it has waited long enough.
local function ready_since(list, now)
  local e = redis.call('LINDEX', list, 0)
  if not e then return nil end
  local due = entry_due(e)
  return due <= now and due or 0
end

local function attribute_braked(attribute)
  return redis.call('HEXISTS', K.brakes, attribute) == 1
end

-- Rows of a resumed attribute go on, a page at a time: `resume` begins, and whoever looks next carries on, so that no
-- row depends on the life of a command. Results: rows moved, rows left.
local function release_braked(attribute, now, most)
  local list = K.braked .. attribute
  local moved = 0
  for _, digest in ipairs(redis.call('LPOP', list, most) or {}) do
    local text = redis.call('HGET', K.rows, digest)
    local r = text and unpack_record(text)
    if r and r.place == BRAKED then
      schedule(digest, r, now, math.max(r.not_before, now), false)
      redis.call('HSET', K.rows, digest, pack_record(r))
      moved = moved + 1
    end
  end
  local left = redis.call('LLEN', list)
  if left > 0 then redis.call('SADD', K.leaving, attribute) else redis.call('SREM', K.leaving, attribute) end
  return moved, left
end

local function go_on_releasing(now)
  for _, attribute in ipairs(redis.call('SMEMBERS', K.leaving)) do
    if attribute_braked(attribute) then
      redis.call('SREM', K.leaving, attribute)
    else
      release_braked(attribute, now, 500)
    end
  end
end

-- Moves what has become due from `later` to the ready lists; a suspect goes alone. Bounded: the rest follows
-- at the next call of a script.
local function promote(now)
  go_on_releasing(now)
  local due = redis.call('ZRANGEBYSCORE', K.later, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 500)
  for i = 1, #due, 2 do
    local digest = due[i]
    local text = redis.call('HGET', K.rows, digest)
    local r = text and unpack_record(text)
    redis.call('ZREM', K.later, digest)
    if r and r.place == LATER then
      if r.max_rows > 0 then
        r.place = GROUP
        new_group({digest}, now, tonumber(due[i + 1]), {root = '', fails = r.mark > 0 and 1 or 0, mark = r.mark > 0 and r.mark or -1,
          split = true})
      else
        schedule(digest, r, now, tonumber(due[i + 1]), false)
      end
      redis.call('HSET', K.rows, digest, pack_record(r))
    end
  end
  return #due
end

-- The rows of a call come back to where they wait. `newer` is the value that arrived during the call, if any:
-- it replaces the called one, which is superseded, keeps its waiting-since, its suspicion and, unless the row was
-- `refused`, its customer details.
-- Results: the record that waits now.
local function come_back(r, newer, refused)
  if not newer then return r end
  count('superseded', 1)
  if not refused then inherit_details(newer, r) end
  newer.occ = math.max(newer.occ, r.occ)
  newer.since = math.min(newer.since, r.since)
  newer.max_rows = math.max(newer.max_rows, r.max_rows)
  return newer
end

-- Rows of a call whose worker died. The server may have applied the call until its lease ended, so no value of
-- these keys is sent before the hold is over; they travel together again, in halves the third time, because a row
-- that kills its worker must be found too.
-- Results: how many calls these were.
local function sweep(now, hold_ms)
  redis.call('ZREMRANGEBYSCORE', K.wakeups, '-inf', now)
  local dead_calls = redis.call('ZRANGEBYSCORE', K.calls, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 20)
  for i = 1, #dead_calls, 2 do
    local id, ended = dead_calls[i], tonumber(dead_calls[i + 1])
    local meta = cjson.decode(redis.call('HGET', K.callmeta, id) or '{}')
    local held = redis.call('HGETALL', K.call .. id)
    local digests, records, newer = {}, {}, {}
    for j = 1, #held, 2 do
      local waiting = redis.call('HGET', K.rows, held[j])
      records[j], newer[j] = unpack_record(held[j + 1]), waiting and unpack_record(waiting) or nil
    end
    redis.call('DEL', K.call .. id)
    redis.call('ZREM', K.calls, id)
    redis.call('HDEL', K.callmeta, id)
    for j = 1, #held, 2 do
      local digest = held[j]
      redis.call('HDEL', K.inflight, digest)
      local back = come_back(records[j], newer[j], false)
      back.place = GROUP
      back.not_before = math.max(back.not_before, ended + hold_ms)
      redis.call('HSET', K.rows, digest, pack_record(back))
      digests[#digests + 1] = digest
    end
    if #digests > 0 then
      local fails = (meta.fails or 0) + 1
      local again = {root = meta.root or id, fails = fails, mark = tonumber(redis.call('HGET', K.gate, 'ok')) or 0,
        split = fails > 2}
      -- Longer and longer only for a lone row: the neighbours of one that kills its workers must not wait for it.
      local due = ended + hold_ms * (#digests == 1 and math.min(2 ^ (fails - 1), 64) or 1)
      if fails > 2 and #digests > 1 then
        new_halves(digests, now, due, again)
      else
        new_group(digests, now, due, again)
      end
    end
    count('calls_lost', 1)
    if redis.call('HGET', K.gate, 'probe') == id then redis.call('HDEL', K.gate, 'probe') end
  end
  return #dead_calls / 2
end
