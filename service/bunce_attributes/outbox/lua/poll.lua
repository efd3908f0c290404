-- What there is to do now, and how long until there may be more; reserves a slot for each wake-up it asks for.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 gate settings (JSON), 3 ms a reservation holds,
-- 4 most messages in the work queue that still make sense, 5 work queue, 6 whether the caller wants intake wake-ups,
-- 7 producers' lists (number), lists..., then tokens for wake-ups of calls.
-- Results: {intake: 0 | 1, wake-ups reserved (the first n tokens), ms until there may be more to do,
--   piled up: 0 | 1 (the work queue holds wake-ups that nobody takes: the caller does the work itself),
--   calls that were lost with their worker and given back just now}
free_first()
local now = clock(ARGV[1])
gate_settings(ARGV[2])
local hold = tonumber(ARGV[3])
local n_lists = tonumber(ARGV[7])

local lost = sweep(now, GATE.hold_ms)
local promoted = promote(now)
local piled_up = redis.call('LLEN', ARGV[5]) >= tonumber(ARGV[4]) and 1 or 0
local next_ms = 60000
local function sooner(ms) next_ms = math.max(0, math.min(next_ms, ms)) end
if promoted >= 1000 then sooner(0) end

local intake = 0
local i = redis.call('HMGET', K.intake, 'token', 'until', 'wakeup_until')
if ARGV[6] == '1' then
  local waiting = redis.call('LLEN', K.scheduleddue)
  for n = 1, n_lists do waiting = waiting + redis.call('LLEN', ARGV[7 + n]) end
  local scheduled = redis.call('ZRANGE', K.scheduled, 0, 0, 'WITHSCORES')
  if #scheduled > 0 then
    if tonumber(scheduled[2]) <= now then waiting = waiting + 1 else sooner(tonumber(scheduled[2]) - now) end
  end
  if waiting > 0 then
    local busy_until = math.max(i[1] and tonumber(i[2]) or 0, tonumber(i[3]) or 0)
    if busy_until > now then
      sooner(busy_until - now)
    else
      redis.call('HSET', K.intake, 'wakeup_until', now + hold)
      intake = 1
    end
  end
end

local later = redis.call('ZRANGE', K.later, 0, 0, 'WITHSCORES')
if #later > 0 then sooner(tonumber(later[2]) - now) end
local calls = redis.call('ZRANGE', K.calls, 0, 0, 'WITHSCORES')
if #calls > 0 then sooner(tonumber(calls[2]) - now) end

local reserved = 0
local state, _, wait = gate_state(now)
if state == 'paused' then
  if wait > 0 then sooner(wait) end
  return {intake, 0, math.ceil(next_ms), piled_up, lost}
end
local most_rows = most_allowed(now)
local ready = redis.call('LLEN', K.live) + redis.call('LLEN', K.bulk)
local due = math.floor(ready / most_rows)
for _, list in ipairs({K.live, K.bulk}) do
  local since = ready_since(list, now)
  if since then
    local old_at = since + GATE.wait_ms
    if old_at > now and state ~= 'probe' then
      if due == 0 then sooner(old_at - now) end
    elseif ready % most_rows > 0 and due == math.floor(ready / most_rows) then
      due = due + 1
    end
  end
end
local group, _, group_wait = next_group(now)
if group then
  due = due + math.max(1, math.min(redis.call('ZCOUNT', K.groups, '-inf', now), math.floor((split_tokens(now)))))
elseif group_wait then
  sooner(group_wait)
end
if due > 0 then
  local permit, permits = permit_wait(now)
  if permit > 0 then
    sooner(permit)
  else
    local outstanding = redis.call('ZCARD', K.wakeups)
    local running = redis.call('ZCARD', K.calls)
    local want = math.min(due, permits, GATE.max_calls - running) - outstanding
    if state == 'probe' then want = math.min(want, 1 - outstanding) end
    local first = 8 + n_lists
    while reserved < want and ARGV[first + reserved] do
      redis.call('ZADD', K.wakeups, now + hold, ARGV[first + reserved])
      reserved = reserved + 1
    end
    if reserved < want then sooner(piled_up == 1 and 200 or 0) end
    if permits < due then sooner(GATE.interval) end
  end
end
return {intake, reserved, math.ceil(next_ms), piled_up, lost}
