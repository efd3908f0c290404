-- Ends the intake lease, so that the next reader need not wait for it. Nothing is moved: messages lie in the queue.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 token, 3 ms before the queue is looked at again,
-- 4 why it waits, for `status` (empty: it does not).
-- Results: 1 if the lease was ours, else 0.
free_first()
local now = clock(ARGV[1])
if tonumber(ARGV[3]) > 0 then
  local looks_again = now + tonumber(ARGV[3])
  redis.call('HSET', K.intake, 'wakeup_until', looks_again, 'waits_because', ARGV[4], 'waits_until', looks_again + 30000)
else
  redis.call('HDEL', K.intake, 'waits_because')
end
if redis.call('HGET', K.intake, 'token') ~= ARGV[2] then return 0 end
redis.call('HDEL', K.intake, 'token', 'until', 'source', 'claimed', 'tail')
return 1
