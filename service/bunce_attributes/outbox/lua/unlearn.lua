-- Remembered versions of a forgotten customer leave; a hold that is not over stays, without them.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 one of the hashes NS:seen:N, then digests.
-- Results: how many were remembered.
free_first()
local now, key = clock(ARGV[1]), ARGV[2]
local forgotten = 0
for i = 3, #ARGV do
  local text = redis.call('HGET', key, ARGV[i])
  if text then
    local _, next_at = read_seen(text)
    if next_at > now then
      redis.call('HSET', key, ARGV[i], seen_text(0, 0, next_at))
    else
      redis.call('HDEL', key, ARGV[i])
    end
    forgotten = forgotten + 1
  end
end
return forgotten
