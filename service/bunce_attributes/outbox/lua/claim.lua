-- Takes permit, slot and rows for one call, in one step.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 call id (unique to this execution, so that a repeated
-- script gets the same rows), 3 token of the wake-up's slot, 4 gate settings (JSON, see gate.py).
-- Results: {'no_slot'} | {'wait', ms, reason} | {'empty', ms until a call is due or -1} |
--   {'call', meta as JSON, digests, attempts, bodies}: one string each, because a client takes longer to read
--   hundreds of values than all else about a call; attempts are >H, bodies lie between line feeds, which none has
free_first()
local now = clock(ARGV[1])
local id, token = ARGV[2], ARGV[3]
gate_settings(ARGV[4])

local function reply(meta_json, taken)
  local digests, attempts, bodies = {}, {}, {}
  for i, t in ipairs(taken) do
    digests[i], attempts[i], bodies[i] = t.digest, struct.pack('>H', t.r.attempts), t.r.body
  end
  return {'call', meta_json, table.concat(digests), table.concat(attempts), table.concat(bodies, '\n')}
end

if redis.call('ZSCORE', K.calls, id) then
  local held, taken = redis.call('HGETALL', K.call .. id), {}
  for i = 1, #held, 2 do taken[#taken + 1] = {digest = held[i], r = unpack_record(held[i + 1])} end
  return reply(redis.call('HGET', K.callmeta, id), taken)
end

sweep(now, GATE.hold_ms)
promote(now)
if redis.call('ZREM', K.wakeups, token) == 0
  and redis.call('ZCARD', K.calls) + redis.call('ZCARD', K.wakeups) >= GATE.max_calls then
  return {'no_slot'}
end
if redis.call('ZCARD', K.calls) >= GATE.max_calls then return {'no_slot'} end
local state, why, wait = gate_state(now)
if state == 'paused' then return {'wait', wait, why} end
local permit = permit_wait(now)
if permit > 0 then return {'wait', math.ceil(permit), 'pacing'} end

local most_rows, most_bytes = most_allowed(now)
local taken, bytes, full = {}, 17, false
local has_brakes = redis.call('EXISTS', K.brakes) == 1

-- Results: whether the row is in the call now (else it is no longer waiting there, or its attribute is braked).
local function take(digest, text, place)
  local r = text and unpack_record(text)
  if not r or r.place ~= place then return false end
  if r.not_before > now then
    -- Found through an entry of an erased row with the same key, which knows nothing of this one's hold.
    schedule(digest, r, now, r.not_before, false)
    redis.call('HSET', K.rows, digest, pack_record(r))
    return false
  end
  if has_brakes and attribute_braked(attribute_of(r.body)) then
    r.place = BRAKED
    redis.call('HSET', K.rows, digest, pack_record(r))
    redis.call('RPUSH', K.braked .. attribute_of(r.body), digest)
    return false
  end
  if 17 + #r.body > most_bytes and has(r.flags, INHERITED_FLAG) then
    -- Valid by itself, too large only with what it took over.
    drop_inherited(r)
    text = pack_record(r)
  end
  if #taken > 0 and bytes + #r.body + 1 > most_bytes then full = true return nil end
  taken[#taken + 1] = {digest = digest, r = r, text = text}
  bytes = bytes + #r.body + 1
  return true
end

-- Fresh rows of one list, from its front, until the call is full.
-- Bounded, because thousands of rows of a braked attribute may stand in front.
local chosen, looked_at = {}, 0
local function take_from(list)
  while not full and #taken < most_rows and looked_at < 5000 do
    local entries = redis.call('LRANGE', list, 0, most_rows - #taken - 1)
    if #entries == 0 then return end
    looked_at = looked_at + #entries
    local digests, used = {}, 0
    for i, e in ipairs(entries) do digests[i] = string.sub(e, 1, DIGEST_BYTES) end
    for first = 1, #digests, 1000 do
      local texts = redis.call('HMGET', K.rows, unpack(digests, first, math.min(first + 999, #digests)))
      for i, text in ipairs(texts) do
        local digest = digests[first + i - 1]
        if not chosen[digest] then
          local result = take(digest, text, READY)
          if result == nil then break end -- the call is full: this row stays in the list
          if result then chosen[digest] = true end
        end
        used = used + 1
      end
      if full then break end
    end
    redis.call('LTRIM', list, used, -1)
  end
end

local turn = redis.call('HINCRBY', K.gate, 'turn', 1)
local live_due, bulk_due = ready_since(K.live, now), ready_since(K.bulk, now)
local oldest = math.min(live_due or math.huge, bulk_due or math.huge)
local ready = redis.call('LLEN', K.live) + redis.call('LLEN', K.bulk)
local fresh = ready > 0 and (ready >= most_rows or oldest + GATE.wait_ms <= now or state == 'probe')

local group, group_meta, group_wait = next_group(now)

local meta = {epoch = tonumber(redis.call('HGET', K.gate, 'epoch')) or 0, root = id, fails = 0, mark = -1,
  ok = tonumber(redis.call('HGET', K.gate, 'ok')) or 0, claimed_at = now, probe = state == 'probe', split = false,
  troubled = 0}
local take_group = group and (not fresh or (state ~= 'probe' and turn % 2 == 0))
if take_group then
  local digests = redis.call('LRANGE', K.group .. group, 0, -1)
  local rest = {}
  for i, digest in ipairs(digests) do
    if #taken >= most_rows or full or take(digest, redis.call('HGET', K.rows, digest), GROUP) == nil then
      rest[#rest + 1] = digest
    end
  end
  redis.call('DEL', K.group .. group)
  redis.call('ZREM', K.groups, group)
  redis.call('HDEL', K.groupmeta, group)
  if #rest > 0 then new_group(rest, now, now, group_meta) end
  meta.fails, meta.mark, meta.split = group_meta.fails, group_meta.mark, group_meta.split or false
  meta.grouped = true
  if group_meta.root ~= '' then meta.root = group_meta.root end
  if #taken > 0 and meta.split then take_split_token(now) end
elseif fresh then
  -- Live rows first; at least every eighth call begins with bulk rows. Either lane fills what the other leaves.
  -- An odd turn, because groups may have the even ones.
  local bulk_first = turn % 8 == 7
  take_from(bulk_first and K.bulk or K.live)
  take_from(bulk_first and K.live or K.bulk)
end

if #taken == 0 then
  local next_at = -1
  local function sooner(ms) if ms and (next_at < 0 or ms < next_at) then next_at = math.max(0, ms) end end
  if ready > 0 then sooner(fresh and 0 or oldest + GATE.wait_ms - now) end
  sooner(group_wait)
  return {'empty', math.ceil(next_at)}
end

local seen, digests, called = {}, {}, {}
for _, t in ipairs(taken) do
  digests[#digests + 1] = t.digest
  called[#called + 1] = t.digest
  called[#called + 1] = t.text
  seen[#seen + 1] = t.digest
  seen[#seen + 1] = id
end
in_chunks(digests, function(...) redis.call('HDEL', K.rows, ...) end)
in_chunks(called, function(...) redis.call('HSET', K.call .. id, ...) end)
in_chunks(seen, function(...) redis.call('HSET', K.inflight, ...) end)
take_permit(now, id, now + GATE.lease_ms)
redis.call('ZADD', K.calls, now + GATE.lease_ms, id)
if meta.probe then redis.call('HSET', K.gate, 'probe', id) end
for _, kind in ipairs({'outage', 'misconfigured', 'unreadable'}) do
  meta.troubled = math.max(meta.troubled, #cjson.decode(redis.call('HGET', K.gate, 'streak:' .. kind) or '[]'))
end
local meta_json = cjson.encode(meta)
redis.call('HSET', K.callmeta, id, meta_json)
return reply(meta_json, taken)
