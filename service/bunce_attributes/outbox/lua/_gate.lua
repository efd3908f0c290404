-- Whether a call may be made now; needs _common.lua. The pause after a 429 and the permits belong to the rate-limit
-- group (an address), everything else to the namespace (a key, a deployment).
-- GATE is set by gate_settings from the ARGV that claim, poll and settle share.
local GATE = {}

local function gate_settings(text)
  GATE = cjson.decode(text)
  GATE.shared = 'bunce-attributes-limit:' .. GATE.group
  GATE.permits = GATE.shared .. ':permits'
  GATE.interval = 60000 / GATE.per_minute
  GATE.burst = 2 * GATE.max_calls
end

-- When a pause ends. None is longer than an hour (answers.py): one that is was begun before the clock was set back.
local function pause_ends(text, now)
  local ends = tonumber(text) or 0
  return ends <= now + 3600000 and ends or 0
end

-- Paced and limited: a leaky bucket (burst: twice the concurrency) under a log of the last 60 s, which is exact
-- over every window. Results: ms until a permit can be had, 0 if now; how many can be had now.
local function permit_wait(now)
  local shared = redis.call('HMGET', GATE.shared, 'until', 'tat', 'longest')
  local closed = pause_ends(shared[1], now)
  if closed > now then return closed - now, 0 end
  redis.call('ZREMRANGEBYSCORE', GATE.permits, '-inf', now - 60000)
  -- No call can end so late: the clock was set back. It counts for a minute from now.
  local no_later = now + math.max(GATE.lease_ms, tonumber(shared[3]) or 0)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', GATE.permits, '(' .. string.format('%.0f', no_later), '+inf')) do
    redis.call('ZADD', GATE.permits, no_later, id)
  end
  local used = redis.call('ZCARD', GATE.permits)
  if used >= GATE.per_minute then
    local oldest = redis.call('ZRANGE', GATE.permits, used - GATE.per_minute, used - GATE.per_minute, 'WITHSCORES')
    return tonumber(oldest[2]) + 60000 - now + 1, 0
  end
  local tat = tonumber(shared[2]) or 0
  -- A clock that was set back must not close the gate for that long.
  if tat > now + math.max(60000, GATE.burst * GATE.interval) and closed < now - 60000 then tat = now end
  local spaced = math.floor(GATE.burst - math.max(0, tat - now) / GATE.interval + 0.000001)
  return math.max(0, tat - now - (GATE.burst - 1) * GATE.interval), math.max(0, math.min(GATE.per_minute - used, spaced))
end

-- A permit counts until 60 s after its call ended, not after it began: when in between the request reached the
-- server, only the server knows, and it is the server's window that must hold. A call that nobody settles counts
-- from the end of its lease.
local function take_permit(now, id, ends_at)
  redis.call('ZADD', GATE.permits, ends_at, id)
  -- Never shortened: another namespace's call may have a longer lease.
  redis.call('PEXPIRE', GATE.permits, math.max(math.ceil(ends_at - now) + 120000, redis.call('PTTL', GATE.permits)))
  local tat = tonumber(redis.call('HGET', GATE.shared, 'tat')) or 0
  local longest = math.max(tonumber(redis.call('HGET', GATE.shared, 'longest')) or 0, ends_at - now)
  redis.call('HSET', GATE.shared, 'longest', string.format('%.0f', longest),
    'tat', string.format('%.3f', math.max(tat, now) + GATE.interval))
end

local function permit_ended(now, id) redis.call('ZADD', GATE.permits, 'XX', now, id) end

-- Opens gradually: the first call at `at`, the next one an interval later.
local function open_gradually(at)
  local tat = tonumber(redis.call('HGET', GATE.shared, 'tat')) or 0
  redis.call('HSET', GATE.shared, 'tat', string.format('%.3f', math.max(tat, at + (GATE.burst - 1) * GATE.interval)))
end

-- Results: state 'open' | 'probe' (one call may be made, to see) | 'paused', reason, ms until that may change
-- (-1: only by an operator).
local function gate_state(now)
  local g = redis.call('HMGET', K.gate, 'manual', 'paused', 'until', 'probe')
  if g[1] then return 'paused', 'paused by an operator', -1 end
  local shared_until = pause_ends(redis.call('HGET', GATE.shared, 'until'), now)
  if g[2] then
    local ends = math.max(pause_ends(g[3], now), shared_until)
    if ends > now then return 'paused', g[2], ends - now end
    if g[4] and redis.call('ZSCORE', K.calls, g[4]) then return 'paused', g[2], 1000 end
    return 'probe', g[2], 0
  end
  if shared_until > now then return 'paused', 'rate_limited', shared_until - now end
  return 'open', '', 0
end

local function pause(now, reason, ends, detail)
  local g = redis.call('HMGET', K.gate, 'paused', 'until', 'since')
  if not g[1] then
    redis.call('HINCRBY', K.gate, 'epoch', 1)
    redis.call('HSET', K.gate, 'since', now)
    count('pauses:' .. reason, 1)
  end
  redis.call('HSET', K.gate, 'paused', reason, 'detail', detail, 'until', math.max(ends, pause_ends(g[2], now)))
end

local function end_pause(now)
  local g = redis.call('HMGET', K.gate, 'paused', 'since')
  if g[1] then count('paused_ms:' .. g[1], math.max(0, now - (tonumber(g[2]) or now))) end
  redis.call('HDEL', K.gate, 'paused', 'until', 'detail', 'since', 'trips', 'probe')
  open_gradually(now)
end

-- Different calls are those that have no row in common: a call, its half and the half of that, each refused for the
-- same row, are one; both halves are two. Roots of halves tell: 'call', 'call/0', 'call/0/1'.
-- Results: how many different calls have failed in this way since one passed.
local function streak(kind, root)
  local field = 'streak:' .. kind
  local roots = {}
  local function holds(whole, part) return string.sub(part .. '/', 1, #whole + 1) == whole .. '/' end
  for _, known in ipairs(cjson.decode(redis.call('HGET', K.gate, field) or '[]')) do
    if holds(root, known) then root = known end
    if not holds(known, root) then roots[#roots + 1] = known end
  end
  roots[#roots + 1] = root
  while #roots > 10 do table.remove(roots, 1) end
  redis.call('HSET', K.gate, field, cjson.encode(roots))
  return #roots
end

local function backoff(trips, root)
  local whole = math.min(GATE.backoff_max_ms, GATE.backoff_ms * 2 ^ (trips - 1))
  -- Between half and whole, spread by the id: scripts must not draw random numbers.
  return whole * (0.5 + (tonumber(string.sub(redis.sha1hex(root), 1, 4), 16) % 1000) / 2000)
end

-- What a call's answer means for the gate. verdict: {kind, retry_after_ms or nil, detail}; meta: of the call.
-- An answer to a call begun in an older epoch can lengthen a pause, never end it.
local function gate_hears(now, verdict, meta, id)
  local kind = verdict.kind
  local g = redis.call('HMGET', K.gate, 'epoch', 'paused', 'probe', 'trips')
  local current = (tonumber(g[1]) or 0) == meta.epoch
  local is_probe = g[3] == id
  local paused, trips = g[2], tonumber(g[4]) or 0
  if is_probe then redis.call('HDEL', K.gate, 'probe') end
  if kind == 'not_sent' then return end
  if kind == 'rate_limited' then
    local ends = now + verdict.retry_after_ms
    local was = pause_ends(redis.call('HGET', GATE.shared, 'until'), now)
    if ends > was then
      redis.call('HSET', GATE.shared, 'until', ends)
      if was <= now then count('pauses:rate_limited', 1) end
      count('paused_ms:rate_limited', ends - math.max(was, now))
    end
    open_gradually(math.max(ends, was))
    redis.call('PEXPIRE', GATE.shared, math.max(ends - now, 0) + 3600000)
    return
  end
  if kind == 'passed' or kind == 'answered' then
    if kind == 'passed' then redis.call('HINCRBY', K.gate, 'ok', 1) end
    if is_probe or (current and not paused) then
      redis.call('HDEL', K.gate, 'streak:outage', 'streak:misconfigured')
      if kind == 'passed' then redis.call('HDEL', K.gate, 'streak:unreadable') end
      if paused and (kind == 'passed' or paused ~= 'unreadable') then
        end_pause(now)
      elseif paused then
        -- A refusal that can be read does not tell that the other answers can.
        redis.call('HSET', K.gate, 'until', now + GATE.probe_ms)
      end
    end
    return
  end
  local limit = verdict.at_once and 1 or ({outage = 3, misconfigured = 2, unreadable = 3})[kind]
  local different = streak(kind, meta.root)
  local asked = verdict.retry_after_ms or 0
  if paused and not is_probe then
    if asked > 0 then pause(now, paused, now + asked, verdict.detail) end
  elseif paused or different >= limit then
    trips = trips + 1
    redis.call('HSET', K.gate, 'trips', trips)
    local wait = kind == 'outage' and backoff(trips, id) or GATE.probe_ms
    pause(now, kind, now + math.max(wait, asked), verdict.detail)
  end
end

-- Splitting refused calls must not use up the rate limit: a bucket of its own.
local function split_tokens(now)
  local b = redis.call('HMGET', K.gate, 'split_tokens', 'split_at')
  local rate = math.max(GATE.per_minute * GATE.split_share, 6) / 60000
  local full = math.max(20, rate * 10000)
  local tokens = math.min(full, (tonumber(b[1]) or full) + math.max(0, now - (tonumber(b[2]) or now)) * rate)
  return tokens, tokens >= 1 and 0 or math.ceil((1 - tokens) / rate)
end
local function take_split_token(now)
  redis.call('HSET', K.gate, 'split_tokens', string.format('%.4f', split_tokens(now) - 1), 'split_at', now)
end

-- The group whose turn it is. Groups that a split made pay from the bucket; one that merely failed does not, and
-- overtakes them.
-- Results: group or nil, its meta, ms until a group may be sent (nil: there is none)
local function next_group(now)
  local first = redis.call('ZRANGE', K.groups, 0, 0, 'WITHSCORES')
  if #first == 0 then return nil, nil, nil end
  local wait = tonumber(first[2]) - now
  if wait > 0 then return nil, nil, wait end
  local tokens, token_wait = split_tokens(now)
  for _, candidate in ipairs(redis.call('ZRANGEBYSCORE', K.groups, '-inf', now, 'LIMIT', 0, 20)) do
    local meta = cjson.decode(redis.call('HGET', K.groupmeta, candidate) or '{"fails":0,"mark":-1,"root":""}')
    if not meta.split or tokens >= 1 then return candidate, meta, 0 end
  end
  return nil, nil, token_wait
end

-- The learned size of a call after 413: it doubles again every minute.
local function most_allowed(now)
  local g = redis.call('HMGET', K.gate, 'learned_rows', 'learned_bytes', 'learned_at')
  if not g[1] then return GATE.max_rows, GATE.max_bytes end
  local factor = 2 ^ math.floor(math.max(0, now - tonumber(g[3])) / GATE.learned_ms)
  return math.min(GATE.max_rows, tonumber(g[1]) * factor), math.min(GATE.max_bytes, tonumber(g[2]) * factor)
end
