-- Updates that were given up on are received anew: fresh attempts, their version and their history.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 '1' to replay even what a newer value has overtaken, with
-- a fresh version, 3 version memory ms, then ids, at most a few hundred.
-- Results: for each id 'replayed' | 'gone' (no such dead letter) | 'no_update' (it was never valid: requeue.lua) |
--   why it was not replayed: 'waiting' | 'in_call' | 'delivered' | 'newer' (died, or delivered while one was dead)
free_first()
local now, now_us = clock(ARGV[1])
local force, memory_ms = ARGV[2] == '1', tonumber(ARGV[3])
local fresh_seq = math.max(now_us, tonumber(redis.call('HGET', K.versions, 'seq') or 0) + 1)
local any_fresh = false

local function details_in(body)
  local _, at = string.find(body, CUSTOMER, 1, true)
  return at and #body - 1 - at or 0
end

local function replay(id)
  local l = read_letter(id)
  if not l then return 'gone' end
  if l.kind ~= 'update' then return 'no_update' end
  local digest = l.digest
  local text = redis.call('HGET', K.rows, digest)
  local old = text and unpack_record(text)
  local call = redis.call('HGET', K.inflight, digest)
  text = call and redis.call('HGET', K.call .. call, digest)
  local called = text and unpack_record(text)
  text = redis.call('HGET', K.marks, digest)
  local mark = text and read_mark(text)
  local seen = {}
  if memory_ms > 0 then
    for _, keys in ipairs({seen_keys(now, memory_ms)}) do
      for _, key in ipairs(keys) do
        text = redis.call('HGET', key, digest)
        if text then
          local s, next_at, o = read_seen(text)
          seen[#seen + 1] = {seq = s, occ = o, next_at = next_at}
        end
      end
    end
  end

  local newest_occ = l.occ
  local function overtaken_by(other, same)
    if not other then return false end
    newest_occ = math.max(newest_occ, other.occ)
    return other.seq > l.seq or (same and other.seq == l.seq) or (l.occ > 0 and other.occ > l.occ)
  end
  -- An export that was mended and enqueued again has the same version, so that equal means overtaken too.
  local why
  for _, s in ipairs(seen) do if overtaken_by(s, true) then why = 'delivered' end end
  if overtaken_by(mark, false) then why = why or 'newer' end
  if overtaken_by(called, true) then why = 'in_call' end
  if overtaken_by(old, true) then why = 'waiting' end
  if why and not force then return why end

  local r = {flags = l.lane == 'bulk' and BULK_FLAG or 0, place = READY, attempts = 0, max_rows = 0, mark = 0,
    details = details_in(l.body), seq = l.seq, occ = newest_occ, since = now, not_before = 0, body = l.body,
    history = l.history .. (l.history == '' and '' or ',') .. '{"at_ms":' .. json_moment(now) .. ',"replayed":true}'}
  if why then
    r.seq, fresh_seq, any_fresh = fresh_seq, fresh_seq + 1, true
  end
  remove_letter(id, l)
  count('received', 1)
  if old then
    count('superseded', 1)
    r.place, r.max_rows, r.mark, r.not_before = old.place, old.max_rows, old.mark, old.not_before
    r.since = math.min(r.since, old.since)
    r.seq = math.max(r.seq, old.seq)
    inherit_details(r, old)
    if not has(old.flags, BULK_FLAG) then
      r.flags = r.flags - (has(r.flags, BULK_FLAG) and BULK_FLAG or 0)
    elseif not has(r.flags, BULK_FLAG) and r.place == READY then
      redis.call('RPUSH', K.live, entry(digest, now))
    end
  else
    if mark then r.max_rows, r.not_before = mark.max_rows, mark.not_before end
    for _, s in ipairs(seen) do r.not_before = math.max(r.not_before, s.next_at) end
    if called then
      r.place = PARKED
    elseif r.not_before > now or r.max_rows > 0 then
      r.place = LATER
      redis.call('ZADD', K.later, math.max(now, r.not_before), digest)
    elseif attribute_braked(attribute_of(r.body)) then
      r.place = BRAKED
      redis.call('RPUSH', K.braked .. attribute_of(r.body), digest)
    else
      schedule(digest, r, now, now, false)
    end
  end
  redis.call('HSET', K.rows, digest, pack_record(r))
  return 'replayed'
end

local results = {}
for i = 4, #ARGV do results[#results + 1] = replay(ARGV[i]) end
if any_fresh then redis.call('HSET', K.versions, 'seq', string.format('%.0f', fresh_seq)) end
return results
