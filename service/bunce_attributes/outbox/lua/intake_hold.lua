-- Takes, or renews, the lease on the queue without reading it, so that its messages can be rewritten (forget).
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 token, 3 lease ms.
-- Results: 0 if the lease is ours, else ms until the reader's lease ends.
free_first()
local now = clock(ARGV[1])
local held = redis.call('HMGET', K.intake, 'token', 'until', 'source', 'claimed')
if held[1] and held[1] ~= ARGV[2] then
  local wait = tonumber(held[2]) - now
  if wait > 0 then
    -- A reader that finds more to do would otherwise ask for the next one before this asks again.
    redis.call('HSET', K.intake, 'wakeup_until', now + 1000)
    return math.ceil(wait)
  end
  -- As in intake_claim: the reader died over its messages.
  if (tonumber(held[4]) or 0) > 0 then
    local lost = redis.call('HINCRBY', K.intake, 'lost:' .. held[3], 1)
    if lost >= 2 and redis.call('HEXISTS', K.intake, 'alone:' .. held[3]) == 0 then
      redis.call('HSET', K.intake, 'alone:' .. held[3], held[4])
    end
  end
end
redis.call('HDEL', K.intake, 'source', 'claimed', 'tail')
-- What is read under this lease may trust the cursors.
local fields = redis.call('HKEYS', K.intake)
for _, field in ipairs(fields) do
  local source = string.match(field, '^cursor:(.*)$')
  local last = source and redis.call('LINDEX', source, -1)
  if source and (not last or cursor_of(source, redis.sha1hex(last)) == 0) then
    redis.call('HDEL', K.intake, field, 'cursor_of:' .. source)
  end
end
redis.call('HSET', K.intake, 'token', ARGV[2], 'until', now + tonumber(ARGV[3]),
  'waits_because', 'a customer is being forgotten')
return 0
