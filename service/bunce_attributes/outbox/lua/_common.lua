-- Prepended to every script: the names of the keys (described in keys.py), the record of an update, the clock.
-- KEYS[1] is the namespace; every other key is derived from it, which is why Redis Cluster is not supported.
-- Times of schedules are milliseconds, versions are microseconds; both since 1970, on Redis' clock.
local NS = KEYS[1]
local K = {
  rows = NS .. ':rows', live = NS .. ':ready:live', bulk = NS .. ':ready:bulk', later = NS .. ':later',
  braked = NS .. ':braked:', brakes = NS .. ':brakes', leaving = NS .. ':brakes:leaving', tallies = NS .. ':tallies',
  group = NS .. ':group:', groups = NS .. ':groups', groupmeta = NS .. ':groups:meta',
  inflight = NS .. ':inflight', call = NS .. ':call:', calls = NS .. ':calls', callmeta = NS .. ':calls:meta',
  wakeups = NS .. ':wakeups', gate = NS .. ':gate', counts = NS .. ':counts', seen = NS .. ':seen:',
  dead = NS .. ':dead', deadindex = NS .. ':dead:index', deadraw = NS .. ':dead:raw', marks = NS .. ':dead:marks',
  intake = NS .. ':intake', scheduled = NS .. ':scheduled', scheduledraw = NS .. ':scheduled:messages',
  scheduleddue = NS .. ':scheduled:due', versions = NS .. ':versions',
}
local LAYOUT = 1
local READY, LATER, PARKED, GROUP, BRAKED = 1, 2, 3, 4, 5 -- places: where the index entry of a waiting update is
local BULK_FLAG, INHERITED_FLAG = 1, 2
local HEADER = '>BBBHHI4I4I4dddd'
local HEADER_BYTES = 51
local DIGEST_BYTES = 16
local CUSTOMER = ',"customer":'

-- Once a later release writes a layout of its own, this one touches nothing of the namespace: each script is refused
-- before its first write, and the workers of that release go on (docs/upgrading.md).
if tonumber(redis.call('HGET', K.versions, 'layout') or LAYOUT) > LAYOUT then
  return redis.error_reply('LAYOUT a later release of bunce-attributes works on this namespace; upgrade this one')
end

-- A script refused by a full Redis is refused at its first write. Scripts that must work then (claim, settle,
-- poll) begin with a write that frees: whatever follows is allowed.
local function free_first() redis.call('DEL', NS .. ':none') end

local function clock(given)
  given = tonumber(given) or 0
  if given > 0 then return given, given * 1000 end
  local time = redis.call('TIME')
  local us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  return math.floor(us / 1000), us
end

local function count(field, delta)
  if delta ~= 0 then redis.call('HINCRBY', K.counts, field, string.format('%.0f', delta)) end
end

local function unpack_record(text)
  if string.byte(text, 1) ~= LAYOUT then
    -- Only a release that broke the rule of docs/upgrading.md leaves one without the mark above.
    error('LAYOUT an update was written by a later release of bunce-attributes; upgrade this one')
  end
  local _, flags, place, attempts, max_rows, mark, details, history, seq, occ, since, not_before =
    struct.unpack(HEADER, text)
  local body_at = HEADER_BYTES + history + 1
  return {flags = flags, place = place, attempts = attempts, max_rows = max_rows, mark = mark, details = details,
    seq = seq, occ = occ, since = since, not_before = not_before, history = string.sub(text, HEADER_BYTES + 1, body_at - 1),
    body = string.sub(text, body_at)}
end

local function pack_record(r)
  return struct.pack(HEADER, LAYOUT, r.flags, r.place, r.attempts, r.max_rows, r.mark, r.details, #r.history, r.seq,
    r.occ, r.since, r.not_before) .. r.history .. r.body
end

local function has(flags, flag) return math.floor(flags / flag) % 2 == 1 end
local function lane_list(flags) return has(flags, BULK_FLAG) and K.bulk or K.live end
local function entry(digest, due) return digest .. struct.pack('>d', due) end
local function entry_due(e) return (struct.unpack('>d', e, DIGEST_BYTES + 1)) end

-- The body always starts {"id":"<36 characters>" (updates.py, row_json).
local function attribute_of(body) return string.sub(body, 8, 43) end

local function own_details(r)
  if r.details == 0 then return '' end
  return string.sub(r.body, -1 - r.details, -2)
end

-- Details taken over from an older row leave again: they are no part of what the producer sent for this value.
local function drop_inherited(r)
  if has(r.flags, INHERITED_FLAG) then
    r.body = string.sub(r.body, 1, -(r.details + #CUSTOMER + 2)) .. '}'
    r.flags = r.flags - INHERITED_FLAG
    r.details = 0
  end
end

local function inherit_details(r, older)
  if r.details > 0 or older.attempts > 0 then return end
  local details = own_details(older)
  if details == '' then return end
  r.body = string.sub(r.body, 1, -2) .. CUSTOMER .. details .. '}'
  r.details = #details
  r.flags = r.flags + INHERITED_FLAG
end

local function slice(list, first, last)
  local part = {}
  for i = first, last do part[#part + 1] = list[i] end
  return part
end

local function in_chunks(list, action)
  for first = 1, #list, 1000 do
    action(unpack(list, first, math.min(first + 999, #list)))
  end
end

-- What a dead letter leaves for its key: newest version, newest occurred_at, when any value may be sent again,
-- suspicion, and how many dead letters the key has.
local function read_mark(text)
  local seq, occ, not_before, max_rows, n = struct.unpack('>dddHI4', text)
  return {seq = seq, occ = occ, not_before = not_before, max_rows = max_rows, n = n}
end
local function write_mark(digest, m)
  redis.call('HSET', K.marks, digest, struct.pack('>dddHI4', m.seq, m.occ, m.not_before, m.max_rows, m.n))
end

-- How many rows of a message that spans several steps were taken in. The message is named by its SHA-1: whoever else
-- takes messages from a list, or puts them at its end, must not make the reader skip rows of another one.
local function cursor_of(source, sha)
  local c = redis.call('HMGET', K.intake, 'cursor:' .. source, 'cursor_of:' .. source)
  return c[2] == sha and tonumber(c[1]) or 0
end
local function write_cursor(source, sha, cursor)
  redis.call('HSET', K.intake, 'cursor:' .. source, cursor, 'cursor_of:' .. source, sha)
end
local function forget_cursor(source, sha)
  if cursor_of(source, sha) > 0 then
    redis.call('HDEL', K.intake, 'cursor:' .. source, 'cursor_of:' .. source, 'cursor_seq:' .. source)
  end
end

-- The memory of delivered versions: one hash for each quarter of BUNCE_VERSION_MEMORY_SECONDS, which expires whole.
local function generation(now, memory_ms) return math.floor(now / (memory_ms / 4)) end
-- Whoever writes says with which length of the memory, so that what was written before the setting was changed, or
-- by workers that have the old one still, is found.
local function note_memory(memory_ms)
  local noted = redis.call('HGET', K.versions, 'memory_ms')
  if noted ~= string.format('%.0f', memory_ms) then
    redis.call('HSET', K.versions, 'memory_ms', string.format('%.0f', memory_ms), 'memory_before_ms', noted or memory_ms)
  end
end
-- Results: names of the hashes that may hold versions, the newest two of each length, and the older ones.
local function seen_keys(now, memory_ms)
  local recent, older, known = {}, {}, {}
  local noted = redis.call('HMGET', K.versions, 'memory_ms', 'memory_before_ms')
  for _, ms in ipairs({memory_ms, tonumber(noted[1]) or memory_ms, tonumber(noted[2]) or memory_ms}) do
    if ms > 0 and not known[ms] then
      known[ms] = true
      for back = 0, 4 do table.insert(back < 2 and recent or older, K.seen .. (generation(now, ms) - back)) end
    end
  end
  return recent, older
end
local function seen_text(seq, occ, next_at)
  local text = struct.pack('>dd', seq, next_at)
  return occ > 0 and text .. struct.pack('>d', occ) or text
end
local function read_seen(text)
  local seq, next_at = struct.unpack('>dd', text)
  local occ = 0
  if #text > 16 then occ = struct.unpack('>d', text, 17) end
  return seq, next_at, occ
end

-- Adds to what is remembered of a key: version, occurred_at, when any value may be sent again.
local function remember(digest, now, memory_ms, seq, occ, not_before)
  note_memory(memory_ms)
  local key = K.seen .. generation(now, memory_ms)
  local known = redis.call('HGET', key, digest)
  local known_seq, next_at, known_occ = 0, 0, 0
  if known then known_seq, next_at, known_occ = read_seen(known) end
  redis.call('HSET', key, digest,
    seen_text(math.max(known_seq, seq), math.max(known_occ, occ), math.max(next_at, not_before)))
  redis.call('PEXPIRE', key, math.ceil(memory_ms * 1.25) + 60000)
end

local function json_moment(ms_or_us) return ms_or_us > 0 and string.format('%.0f', ms_or_us) or 'null' end
local function hex(bytes) return (string.gsub(bytes, '.', function(c) return string.format('%02x', string.byte(c)) end)) end

-- Identifiers of dead letters, scheduled messages and groups: unique, and sorted by time also as text.
local function fresh_id(now)
  return string.format('%013.0f-%09.0f', now, redis.call('HINCRBY', K.versions, 'ids', 1))
end

-- An update that is given up on becomes a dead letter; what its key must remember stays in its mark.
local function bury(digest, r, now, class, reason, retry_base_ms)
  local id = fresh_id(now)
  redis.call('HSET', K.dead, id, '{"layout":1,"id":"' .. id .. '","kind":"update","died_at_ms":' .. json_moment(now)
    .. ',"reason_class":"' .. class .. '","reason":' .. reason .. ',"attribute":"' .. attribute_of(r.body)
    .. '","key":"' .. hex(digest) .. '","lane":"' .. (has(r.flags, BULK_FLAG) and 'bulk' or 'live')
    .. '","accepted_at_us":' .. json_moment(r.seq) .. ',"occurred_at_us":' .. json_moment(r.occ)
    .. ',"waiting_since_ms":' .. json_moment(r.since) .. ',"attempts":[' .. r.history .. '],"row":' .. r.body .. '}')
  redis.call('ZADD', K.deadindex, now, id)
  local text = redis.call('HGET', K.marks, digest)
  local m = text and read_mark(text) or {seq = 0, occ = 0, not_before = 0, max_rows = 0, n = 0}
  write_mark(digest, {seq = math.max(m.seq, r.seq), occ = math.max(m.occ, r.occ),
    not_before = math.max(m.not_before, r.not_before, now + retry_base_ms), max_rows = r.max_rows, n = m.n + 1})
  count('dead:' .. class, 1)
end
