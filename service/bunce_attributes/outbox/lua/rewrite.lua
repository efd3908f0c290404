-- Replaces messages that wait, under the lease of intake_hold.lua, or unreadable ones among the dead letters: the
-- rows of one customer are no longer in them. An unchanged place is proven by the SHA-1 of what the caller read.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 token, 3 lease ms, 4 key: a list, NS:scheduled:messages or
-- NS:dead:raw, 5 cursor of the list from now on ('' = as it was), then for each message: index in the list or field,
-- SHA-1, new message, rows that left it and had not been taken in.
-- Results: {'lost'} if the lease is another's, else {'rewritten', messages replaced}
free_first()
local now = clock(ARGV[1])
local key = ARGV[4]
local is_dead = key == K.deadraw
if not is_dead then
  if redis.call('HGET', K.intake, 'token') ~= ARGV[2] then return {'lost'} end
  redis.call('HSET', K.intake, 'until', now + tonumber(ARGV[3]))
end
local in_hash = is_dead or key == K.scheduledraw
local replaced, rows = 0, 0
for i = 6, #ARGV, 4 do
  local at, sha = ARGV[i], ARGV[i + 1]
  local message
  if in_hash then message = redis.call('HGET', key, at) else message = redis.call('LINDEX', key, at) end
  if message and redis.sha1hex(message) == sha then
    if in_hash then redis.call('HSET', key, at, ARGV[i + 2]) else redis.call('LSET', key, at, ARGV[i + 2]) end
    replaced = replaced + 1
    rows = rows + tonumber(ARGV[i + 3])
  end
end
if ARGV[5] ~= '' then
  if ARGV[5] == '0' then
    redis.call('HDEL', K.intake, 'cursor:' .. key, 'cursor_of:' .. key)
  else
    write_cursor(key, redis.sha1hex(redis.call('LINDEX', key, -1)), ARGV[5])
  end
end
if not is_dead then
  count('received', rows)
  count('purged', rows)
end
return {'rewritten', replaced}
