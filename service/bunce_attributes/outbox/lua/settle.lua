-- Ends a call: what happened to each of its rows, what the gate hears, what is counted.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 call id, 3 gate settings (JSON), 4 verdict for the gate
-- (JSON: kind, retry_after_ms, detail, at_once), 5 what happens to rows not named below: 'saved' | 'again' (at once,
-- no attempt) | 'group' (together again, no attempt) | 'halves', 6 hold ms before any value of a key that is
-- not saved may be sent, 7 ms before a group may be sent again, 8 learn: 1 after a 413,
-- 9 named rows, 10 counters; then
--   each named row: digest, 'retry' | 'retry_alone' | 'dead', delay ms, JSON members of the attempt, class, reason (JSON)
--   each counter: field, delta
-- Results: {'gone'} if the lease ended and the rows were given back, else
--   {'settled', saved, retried, dead, superseded, released}
free_first()
local now = clock(ARGV[1])
local id = ARGV[2]
gate_settings(ARGV[3])
local verdict, default = cjson.decode(ARGV[4]), ARGV[5]
local hold_ms, group_ms, learn = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local n_named, n_counters = tonumber(ARGV[9]), tonumber(ARGV[10])

if not redis.call('ZSCORE', K.calls, id) then return {'gone'} end

local named, at = {}, 11
for _ = 1, n_named do
  named[ARGV[at]] = {action = ARGV[at + 1], delay = tonumber(ARGV[at + 2]), attempt = ARGV[at + 3],
    class = ARGV[at + 4], reason = ARGV[at + 5]}
  at = at + 6
end
local meta = cjson.decode(redis.call('HGET', K.callmeta, id))
local held = redis.call('HGETALL', K.call .. id)
local digests, called, newer = {}, {}, {}
for i = 1, #held, 2 do
  digests[#digests + 1] = held[i]
  called[held[i]] = unpack_record(held[i + 1])
end
for first = 1, #digests, 1000 do
  local texts = redis.call('HMGET', K.rows, unpack(digests, first, math.min(first + 999, #digests)))
  for i, text in ipairs(texts) do
    if text then newer[digests[first + i - 1]] = unpack_record(text) end
  end
end
-- From here on everything is known: the rows leave the call, and each is put where it belongs.
redis.call('DEL', K.call .. id)
redis.call('ZREM', K.calls, id)
redis.call('HDEL', K.callmeta, id)
in_chunks(digests, function(...) redis.call('HDEL', K.inflight, ...) end)
permit_ended(now, id)
gate_hears(now, verdict, meta, id)
local ok_now = tonumber(redis.call('HGET', K.gate, 'ok')) or 0

local saved, retried, dead, superseded, released = 0, 0, 0, 0, 0
local regroup, tallies, delivered = {}, {}, {}
local has_marks = redis.call('EXISTS', K.marks) == 1
local latency = {}
local LATENCY_MS = {1000, 2000, 5000, 10000, 30000, 60000, 300000, 900000, 3600000, 14400000, 86400000}

local function tally(attribute, kind)
  local t = tallies[attribute]
  if not t then
    t = {saved = 0, refused = 0}
    tallies[attribute] = t
  end
  t[kind] = t[kind] + 1
end

-- Whether a refusal is a row's first since somebody decided that its attribute goes on: the same row refused again
-- and again says nothing new, but after `resume` each row is news.
local resumed = {}
local function is_news(r)
  if r.attempts == 0 then return true end
  local attribute = attribute_of(r.body)
  if resumed[attribute] == nil then
    resumed[attribute] = tonumber(redis.call('HGET', K.tallies, 'resumed:' .. attribute)) or 0
  end
  return resumed[attribute] > (tonumber(string.match(r.history, '.*"at_ms":(%d+)')) or 0)
end

local function write(digest, r) redis.call('HSET', K.rows, digest, pack_record(r)) end

local function put_back(digest, r, due, in_front)
  schedule(digest, r, now, math.max(due, r.not_before), in_front)
  write(digest, r)
end

for _, digest in ipairs(digests) do
  local r, waiting = called[digest], newer[digest]
  local what = named[digest]
  local action = what and what.action or default
  if action == 'saved' then
    saved = saved + 1
    local next_at = now + GATE.wait_ms
    delivered[#delivered + 1] = digest
    delivered[#delivered + 1] = seen_text(r.seq, r.occ, next_at)
    local mark = has_marks and redis.call('HGET', K.marks, digest)
    if mark then
      local m = read_mark(mark)
      m.seq, m.occ, m.max_rows = math.max(m.seq, r.seq), math.max(m.occ, r.occ), 0
      write_mark(digest, m)
    end
    tally(attribute_of(r.body), 'saved')
    local waited, bucket = now - r.since, 'inf'
    for _, le in ipairs(LATENCY_MS) do
      if waited <= le then bucket = string.format('%.0f', le) break end
    end
    latency[bucket] = (latency[bucket] or 0) + 1
    latency.sum = (latency.sum or 0) + waited
    if waiting then
      waiting.occ, waiting.max_rows, waiting.mark = math.max(waiting.occ, r.occ), 0, 0
      put_back(digest, waiting, next_at, false)
    end
  else
    local refused = action == 'retry' or action == 'retry_alone' or action == 'dead'
    local not_before = math.max(hold_ms > 0 and now + hold_ms or 0, refused and now + GATE.retry_base_ms or 0)
    if refused then
      if is_news(r) then tally(attribute_of(r.body), 'refused') end
      r.attempts = r.attempts + 1
      r.history = r.history .. (r.history == '' and '' or ',') .. '{"at_ms":' .. json_moment(now) .. ','
        .. what.attempt .. '}'
      drop_inherited(r)
      if action == 'retry_alone' then r.max_rows, r.mark = 1, ok_now end
      if action == 'retry' then r.max_rows, r.mark = 0, 0 end
      if action == 'dead' and #digests == 1 and default ~= 'saved' then r.max_rows, r.mark = 1, ok_now end
    end
    if waiting then superseded = superseded + 1 end
    local back = come_back(r, waiting, refused)
    back.not_before = math.max(back.not_before, not_before)
    if refused and waiting then
      put_back(digest, back, not_before, false)
    elseif action == 'dead' then
      dead = dead + 1
      bury(digest, r, now, what.class, what.reason, GATE.retry_base_ms)
    elseif refused then
      retried = retried + 1
      put_back(digest, back, now + math.max(what.delay, 1), false)
    elseif action == 'again' and not meta.grouped then
      if not waiting then released = released + 1 end
      put_back(digest, back, now - GATE.wait_ms, true)
    else
      if not waiting then released = released + 1 end
      back.place = GROUP
      write(digest, back)
      regroup[#regroup + 1] = digest
    end
  end
end

if #regroup > 0 then
  local failed = default ~= 'again'
  -- Halves start anew: what they have in common with the whole is that it failed, not how often.
  local fails = not failed and meta.fails or default == 'halves' and 1 or meta.fails + 1
  local again = {root = meta.root, fails = fails,
    mark = failed and ok_now or meta.mark, split = meta.split or default == 'halves'}
  local due = now + math.max(hold_ms, group_ms)
  if default == 'halves' and #regroup > 1 then
    new_halves(regroup, now, due, again)
  else
    new_group(regroup, now, due, again)
  end
end

-- Only from fresh calls: one row that is too large by itself makes each part too large that it is in.
if learn and not meta.grouped then
  local rows, bytes = most_allowed(now)
  local sent = 0
  for _, digest in ipairs(digests) do sent = sent + #called[digest].body + 1 end
  redis.call('HSET', K.gate, 'learned_rows', math.max(1, math.min(rows, math.floor(#digests / 2))),
    'learned_bytes', math.max(1000, math.min(bytes, math.floor(sent / 2))), 'learned_at', now)
end

-- The brake: when most rows of an attribute are being refused, it is more likely that the attribute is wrong than
-- that each of its rows is. Old tallies lose half their weight every ten minutes.
for attribute, t in pairs(tallies) do
  local text = redis.call('HGET', K.tallies, attribute)
  if t.refused > 0 or text then
    local was_refused, was_saved, since = 0, 0, now
    if text then was_refused, was_saved, since = struct.unpack('>ddd', text) end
    local weight = 0.5 ^ (math.max(0, now - since) / 600000)
    local all_refused, all_saved = was_refused * weight + t.refused, was_saved * weight + t.saved
    if all_refused < 0.5 then
      redis.call('HDEL', K.tallies, attribute)
    else
      redis.call('HSET', K.tallies, attribute, struct.pack('>ddd', all_refused, all_saved, now))
    end
    local free_until = tonumber(redis.call('HGET', K.tallies, 'free:' .. attribute) or 0)
    if t.refused > 0 and all_refused >= GATE.brake_rows and free_until < now
      and all_refused >= GATE.brake_share * (all_refused + all_saved)
      and redis.call('HEXISTS', K.brakes, attribute) == 0 then
      redis.call('HSET', K.brakes, attribute, cjson.encode({since_ms = now, by = 'brake',
        refused = math.floor(all_refused + 0.5), saved = math.floor(all_saved + 0.5)}))
      count('brakes', 1)
    end
  end
end

if #delivered > 0 and GATE.memory_ms > 0 then
  note_memory(GATE.memory_ms)
  local seen_key = K.seen .. generation(now, GATE.memory_ms)
  in_chunks(delivered, function(...) redis.call('HSET', seen_key, ...) end)
  redis.call('PEXPIRE', seen_key, math.ceil(GATE.memory_ms * 1.25) + 60000)
end
count('saved', saved)
count('retried', retried)
for bucket, n in pairs(latency) do count('latency_ms:' .. bucket, n) end
for i = at, at + 2 * n_counters - 1, 2 do count(ARGV[i], tonumber(ARGV[i + 1])) end
return {'settled', saved, retried, dead, superseded, released}
