-- The figures of `status` and of the metrics, read in one step so that they add up.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 gate settings (JSON), 3... the producers' lists.
-- Results: JSON
local now = clock(ARGV[1])
gate_settings(ARGV[2])
local counts = {}
local flat = redis.call('HGETALL', K.counts)
for i = 1, #flat, 2 do counts[flat[i]] = tonumber(flat[i + 1]) end
local readable = redis.call('LLEN', K.scheduleddue)
for i = 3, #ARGV do readable = readable + redis.call('LLEN', ARGV[i]) end
local queued = readable + redis.call('ZCARD', K.scheduled)

local waiting, leased = redis.call('HLEN', K.rows), redis.call('HLEN', K.inflight)
local later = redis.call('ZCARD', K.later)
local later_due = redis.call('ZCOUNT', K.later, '-inf', now)

local oldest = nil
for _, list in ipairs({K.live, K.bulk}) do
  local e = redis.call('LINDEX', list, 0)
  local text = e and redis.call('HGET', K.rows, string.sub(e, 1, DIGEST_BYTES))
  if text then oldest = math.min(oldest or math.huge, unpack_record(text).since) end
end
for _, digest in ipairs(redis.call('ZRANGE', K.later, 0, 0)) do
  local text = redis.call('HGET', K.rows, digest)
  if text then oldest = math.min(oldest or math.huge, unpack_record(text).since) end
end
for _, group in ipairs(redis.call('ZRANGE', K.groups, 0, 0)) do
  local digest = redis.call('LINDEX', K.group .. group, 0)
  local text = digest and redis.call('HGET', K.rows, digest)
  if text then oldest = math.min(oldest or math.huge, unpack_record(text).since) end
end

-- Groups after a split may be many: beyond a thousand their rows are estimated, as `status` says.
local group_rows, looked_at = 0, 0
for _, group in ipairs(redis.call('ZRANGE', K.groups, 0, 999)) do
  group_rows, looked_at = group_rows + redis.call('LLEN', K.group .. group), looked_at + 1
end
local n_groups = redis.call('ZCARD', K.groups)
if n_groups > looked_at then group_rows = math.floor(group_rows / looked_at * n_groups) end

-- Dead letters that are left, by reason: buried less those that were replayed or purged (_dead.lua).
local dead_by_reason = {}
for field, n in pairs(counts) do
  local class = string.match(field, '^dead:(.+)$')
  local left = class and n - (counts['dead_left:' .. class] or 0) or 0
  if left > 0 then dead_by_reason[class] = left end
end
local first_dead = redis.call('ZRANGE', K.deadindex, 0, 0, 'WITHSCORES')

-- What the API said about rows that are held back: the attempts of one of the first or last of them.
local function sample_attempts(list)
  for _, first in ipairs({0, -10}) do
    for _, digest in ipairs(redis.call('LRANGE', list, first, first + 9)) do
      local text = redis.call('HGET', K.rows, digest)
      local r = text and unpack_record(text)
      if r and r.history ~= '' then return '[' .. r.history .. ']' end
    end
  end
  return '[]'
end

local brakes, braked = {}, 0
flat = redis.call('HGETALL', K.brakes)
for i = 1, #flat, 2 do
  local n = redis.call('LLEN', K.braked .. flat[i])
  local b = cjson.decode(flat[i + 1])
  b.attribute, b.waiting, b.attempts = flat[i], n, #brakes < 20 and sample_attempts(K.braked .. flat[i]) or '[]'
  braked = braked + n
  brakes[#brakes + 1] = b
end
for _, attribute in ipairs(redis.call('SMEMBERS', K.leaving)) do
  if redis.call('HEXISTS', K.brakes, attribute) == 0 then braked = braked + redis.call('LLEN', K.braked .. attribute) end
end

local state, reason, wait = gate_state(now)
local g = redis.call('HMGET', K.gate, 'epoch', 'detail', 'since', 'ok', 'trips', 'manual', 'paused')
local since = tonumber(g[6]) or tonumber(g[3]) or -1
local used = redis.call('ZCOUNT', GATE.permits, '(' .. string.format('%.0f', now - 60000), '+inf')
local intake = redis.call('HMGET', K.intake, 'waits_because', 'token', 'until', 'waits_until')
-- What was said last is true no longer when nothing is left to read, or when nobody has looked again for long.
local waits = readable > 0 and (tonumber(intake[4]) or 0) > now
return cjson.encode({
  now_ms = now, counts = counts, queued_messages = queued, scheduled_messages = redis.call('ZCARD', K.scheduled),
  waiting = waiting + leased, leased = leased, later = later,
  groups = redis.call('ZCARD', K.groups), groups_due = redis.call('ZCOUNT', K.groups, '-inf', now),
  ready_live = redis.call('LLEN', K.live), ready_bulk = redis.call('LLEN', K.bulk), later_due = later_due,
  group_rows = group_rows, dead_by_reason = dead_by_reason, oldest_dead_ms = tonumber(first_dead[2]) or -1,
  dead = redis.call('ZCARD', K.deadindex), brakes = brakes, braked = braked,
  calls_running = redis.call('ZCARD', K.calls), wakeups = redis.call('ZCARD', K.wakeups),
  oldest_waiting_ms = oldest and math.max(0, now - oldest) or -1,
  gate = {state = state, reason = reason, wait_ms = wait, detail = g[2] or '', since_ms = since,
    epoch = tonumber(g[1]) or 0, permits_used = used,
    paused_for = g[7] or '', paused_since_ms = tonumber(g[3]) or -1}, -- whether or not an operator paused too
  intake_waits_because = waits and intake[1] or '', intake_reads = intake[2] and (tonumber(intake[3]) or 0) > now,
})
