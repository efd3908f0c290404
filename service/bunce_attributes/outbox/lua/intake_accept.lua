-- Writes rows to the outbox and forgets the messages they came in, in one step.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 token, 3 source list, 4 messages to forget (from the end
-- of the list), 5 cursor: rows already taken of the message that is then last, 6 lease ms, 7 version memory ms,
-- 8 rows, 9 invalid rows, 10 dead messages, 11 scheduled messages; then
--   the length of each row ('>I4', one after the other), and all rows one after the other: one string each, because a
--     client takes longer to write hundreds of values than to join them
--   a row: struct '>BI4ddd' flags, length of the details, occurred_at us (0 = none), accepted_at us of an exported
--     dead letter (0 = none), waiting since ms; digest; body
--   for each invalid row, then each dead message, how many of all three kinds stood before it ('>I4')
--   each invalid row: JSON members of a dead letter, without braces
--   each dead message: its number among the forgotten (from 1), JSON members
--   each scheduled message: its number among the forgotten, due ms
-- Results: {'lost'} if the lease is another's or the list changed under it, else
--   {'accepted', rows accepted, rows superseded at once}
-- Also in a full Redis: only rows that come out of the queue can be sent and make room (intake.py keeps it small).
free_first()
local now, now_us = clock(ARGV[1])
local token, source = ARGV[2], ARGV[3]
local forget, cursor, lease_ms, memory_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local n_rows, n_invalid, n_dead, n_scheduled = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local held = redis.call('HMGET', K.intake, 'token', 'source', 'tail', 'claimed')
if held[1] ~= token or held[2] ~= source then return {'lost'} end
local last = redis.call('LINDEX', source, -1)
if not last or redis.sha1hex(last) ~= held[3] or redis.call('LLEN', source) < forget then return {'lost'} end

-- Versions: the order of intake, never backwards, even if Redis' clock is.
local seq = math.max(now_us, tonumber(redis.call('HGET', K.versions, 'seq') or 0) + 1)
local superseded, in_place, placed, rows, order = 0, 0, {[K.live] = {}, [K.bulk] = {}}, {}, {}

local LENGTHS, ROWS, PLACES, FIRST = ARGV[12], ARGV[13], ARGV[14], 15
local parsed, digests, dated = {}, {}, {}
local row_at = 1
for i = 1, n_rows do
  local flags, details, occ, accepted, since, at = struct.unpack('>BI4ddd', ROWS, row_at)
  local digest = string.sub(ROWS, at, at + DIGEST_BYTES - 1)
  row_at = row_at + struct.unpack('>I4', LENGTHS, 4 * i - 3)
  parsed[i] = {flags = flags, details = details, occ = occ, accepted = accepted, since = since,
    body_at = at + DIGEST_BYTES, body_end = row_at - 1}
  digests[i] = digest
end

local function look_up(key, list)
  local found = {}
  if #list == 0 or redis.call('EXISTS', key) == 0 then return found end
  for first = 1, #list, 1000 do
    local last_one = math.min(first + 999, #list)
    local values = redis.call('HMGET', key, unpack(list, first, last_one))
    for i = first, last_one do
      if values[i - first + 1] then found[list[i]] = values[i - first + 1] end
    end
  end
  return found
end

local stored = look_up(K.rows, digests)
local calls = look_up(K.inflight, digests)
local marks = look_up(K.marks, digests)
local braked_attributes = redis.call('EXISTS', K.brakes) == 1
local recent, older = {}, {}
if memory_ms > 0 then
  local recent_keys, older_keys = seen_keys(now, memory_ms)
  for i, key in ipairs(recent_keys) do recent[i] = look_up(key, digests) end
  for i = 1, n_rows do
    if parsed[i].occ > 0 or parsed[i].accepted > 0 then dated[#dated + 1] = digests[i] end
  end
  for i, key in ipairs(older_keys) do older[i] = look_up(key, dated) end
end

-- The newest version and the newest occurred_at that anybody remembers of a key.
local function newest_known(digest, old)
  local known_seq, known_occ = 0, 0
  local function see(s, o)
    known_seq, known_occ = math.max(known_seq, s), math.max(known_occ, o)
  end
  if old then see(old.seq, old.occ) end
  if calls[digest] then
    local text = redis.call('HGET', K.call .. calls[digest], digest)
    local r = text and unpack_record(text)
    if r then see(r.seq, r.occ) end
  end
  if marks[digest] then
    local m = read_mark(marks[digest])
    see(m.seq, m.occ)
  end
  for _, hashes in ipairs({recent, older}) do
    for _, found in ipairs(hashes) do
      if found[digest] then
        local s, _, o = read_seen(found[digest])
        see(s, o)
      end
    end
  end
  return known_seq, known_occ
end

-- What was never valid has its version too: it may be replayed, and is then newer than what stood before it.
local letter_at, letter_seq, position = {}, {}, 0
local begun_at, begun_seq = n_rows + n_invalid + n_dead - cursor, nil -- the first row of the message that goes on
for i = 1, n_invalid + n_dead do letter_at[struct.unpack('>I4', PLACES, 4 * i - 3)] = i end
local function give_letters_their_version()
  while letter_at[position] do
    if position == begun_at then begun_seq = seq end
    letter_seq[letter_at[position]] = seq
    seq, position = seq + 1, position + 1
  end
end

for i = 1, n_rows do
  give_letters_their_version()
  if position == begun_at then begun_seq = seq end
  position = position + 1
  local p, digest = parsed[i], digests[i]
  local old = rows[digest]
  if old == nil and stored[digest] then
    old = unpack_record(stored[digest])
  end
  local stale = false
  if p.occ > 0 or p.accepted > 0 then
    local known_seq, known_occ = newest_known(digest, old)
    stale = (p.occ > 0 and known_occ > p.occ) or (p.accepted > 0 and known_seq > p.accepted)
  end
  if stale then
    superseded = superseded + 1
  else
    local r = {flags = p.flags, place = READY, attempts = 0, max_rows = 0, mark = 0, details = p.details, history = '',
      seq = seq, occ = p.occ, since = p.since > 0 and math.min(math.floor(p.since), now) or now, not_before = 0,
      body = string.sub(ROWS, p.body_at, p.body_end)}
    if p.accepted > 0 then r.seq = p.accepted else seq = seq + 1 end
    if old then
      superseded = superseded + 1
      in_place = in_place + 1
      r.place, r.max_rows, r.mark, r.not_before = old.place, old.max_rows, old.mark, old.not_before
      r.since = math.min(r.since, old.since)
      r.occ = math.max(r.occ, old.occ)
      r.seq = math.max(r.seq, old.seq)
      inherit_details(r, old)
      local was_bulk, is_bulk = has(old.flags, BULK_FLAG), has(r.flags, BULK_FLAG)
      if is_bulk and not was_bulk then
        r.flags = r.flags - BULK_FLAG
      elseif was_bulk and not is_bulk and r.place == READY then
        table.insert(placed[K.live], entry(digest, now))
      end
      if r.place == LATER then
        redis.call('ZADD', K.later, 'LT', math.max(now, r.not_before), digest)
      end
    else
      if calls[digest] then
        r.place = PARKED
      else
        if marks[digest] then
          local m = read_mark(marks[digest])
          r.max_rows, r.not_before, r.occ = m.max_rows, m.not_before, math.max(r.occ, m.occ)
        end
        for _, found in ipairs(recent) do
          if found[digest] then
            local _, next_at, seen_occ = read_seen(found[digest])
            r.not_before = math.max(r.not_before, next_at)
            r.occ = math.max(r.occ, seen_occ)
          end
        end
        if r.not_before > now or r.max_rows > 0 then
          r.place = LATER
          redis.call('ZADD', K.later, math.max(now, r.not_before), digest)
        elseif braked_attributes and redis.call('HEXISTS', K.brakes, attribute_of(r.body)) == 1 then
          r.place = BRAKED
          redis.call('RPUSH', K.braked .. attribute_of(r.body), digest)
        else
          table.insert(placed[lane_list(r.flags)], entry(digest, now))
        end
      end
    end
    if rows[digest] == nil then order[#order + 1] = digest end
    rows[digest] = r
  end
end

give_letters_their_version()

local writes = {}
for _, digest in ipairs(order) do
  writes[#writes + 1] = digest
  writes[#writes + 1] = pack_record(rows[digest])
end
in_chunks(writes, function(...) redis.call('HSET', K.rows, ...) end)
for list, entries in pairs(placed) do
  in_chunks(entries, function(...) redis.call('RPUSH', list, ...) end)
end
redis.call('HSET', K.versions, 'seq', seq)

local function dead_letter(members, kind, version)
  local id = fresh_id(now)
  redis.call('HSET', K.dead, id, '{"layout":1,"id":"' .. id .. '","kind":"' .. kind .. '","died_at_ms":'
    .. json_moment(now) .. ',' .. members .. ',"accepted_at_us":' .. json_moment(version) .. '}')
  redis.call('ZADD', K.deadindex, now, id)
  return id
end

local at = FIRST
for i = 1, n_invalid do dead_letter(ARGV[at + i - 1], 'row', letter_seq[i]) end
at = at + n_invalid
local popped = forget > 0 and redis.call('RPOP', source, forget) or {}
for i = at, at + 2 * n_dead - 1, 2 do
  local version = letter_seq[n_invalid + (i - at) / 2 + 1]
  redis.call('HSET', K.deadraw, dead_letter(ARGV[i + 1], 'message', version), popped[tonumber(ARGV[i])])
  count('dead:' .. cjson.decode('{' .. ARGV[i + 1] .. '}').reason_class, 1)
end
at = at + 2 * n_dead
for i = at, at + 2 * n_scheduled - 1, 2 do
  local id = fresh_id(now)
  redis.call('HSET', K.scheduledraw, id, popped[tonumber(ARGV[i])])
  redis.call('ZADD', K.scheduled, tonumber(ARGV[i + 1]), id)
end

count('received', n_rows + n_invalid + n_dead)
count('superseded', superseded)
count('dead:invalid', n_invalid)
count('messages', forget - n_scheduled)

local claimed = tonumber(held[4]) - forget
redis.call('HSET', K.intake, 'until', now + lease_ms, 'claimed', math.max(claimed, 0))
local tail = held[3]
if forget > 0 then
  forget_cursor(source, tail)
  local next_last = redis.call('LINDEX', source, -1)
  tail = next_last and redis.sha1hex(next_last) or ''
  redis.call('HSET', K.intake, 'tail', tail)
  local alone = tonumber(redis.call('HGET', K.intake, 'alone:' .. source) or 0) - forget
  if alone > 0 then
    redis.call('HSET', K.intake, 'alone:' .. source, alone, 'lost:' .. source, 2)
  else
    redis.call('HDEL', K.intake, 'alone:' .. source, 'lost:' .. source)
  end
elseif cursor > 0 then
  redis.call('HDEL', K.intake, 'lost:' .. source)
end
if cursor > 0 then
  -- Should it become a dead letter, it is no newer than its first rows, which are out in the world.
  if cursor_of(source, tail) == 0 then redis.call('HSET', K.intake, 'cursor_seq:' .. source, begun_seq or seq) end
  write_cursor(source, tail, cursor)
end
return {'accepted', n_rows - superseded + in_place, superseded - in_place, in_place}
