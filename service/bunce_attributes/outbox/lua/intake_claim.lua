-- Claims messages at the end of the producers' queue, where they stay until intake_accept forgets them: a lease
-- that ends gives them back in their order by doing nothing.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 token, 3 lease ms, 4 most messages, 5 most bytes,
-- 6 most bytes of one message. Further ARGV: the producers' lists, first to be read first.
-- Results: {'busy', ms until the lease ends} | {'empty'} | {'claimed', now us, source, cursor, message...}
-- A message that cost its reader the lease twice is claimed alone; the third time, or if it is too large, it is a
-- dead letter verbatim.
free_first()
local now, now_us = clock(ARGV[1])
local token, lease_ms = ARGV[2], tonumber(ARGV[3])
local most_messages, most_bytes, largest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local sources = {K.scheduleddue}
for i = 7, #ARGV do sources[#sources + 1] = ARGV[i] end

local held = redis.call('HMGET', K.intake, 'token', 'until', 'source', 'claimed')
if held[1] and held[1] ~= token then
  local ends = tonumber(held[2])
  if ends > now then return {'busy', ends - now} end
  local claimed = tonumber(held[4]) or 0
  if claimed > 0 then
    local lost = redis.call('HINCRBY', K.intake, 'lost:' .. held[3], 1)
    local alone = tonumber(redis.call('HGET', K.intake, 'alone:' .. held[3]) or 0)
    if lost >= 2 and alone == 0 then redis.call('HSET', K.intake, 'alone:' .. held[3], claimed) end
  end
end
redis.call('HDEL', K.intake, 'wakeup_until')

local due = redis.call('ZRANGEBYSCORE', K.scheduled, '-inf', now, 'LIMIT', 0, 500)
for _, id in ipairs(due) do
  redis.call('LPUSH', K.scheduleddue, redis.call('HGET', K.scheduledraw, id))
  redis.call('HDEL', K.scheduledraw, id)
  redis.call('ZREM', K.scheduled, id)
end

local function bury_message(source, reason)
  local id = fresh_id(now)
  local message = redis.call('RPOP', source)
  local seq = math.max(now_us, tonumber(redis.call('HGET', K.versions, 'seq') or 0) + 1)
  redis.call('HSET', K.versions, 'seq', seq + 1)
  if cursor_of(source, redis.sha1hex(message)) > 0 then
    seq = tonumber(redis.call('HGET', K.intake, 'cursor_seq:' .. source)) or seq
  end
  redis.call('HSET', K.deadraw, id, message)
  redis.call('HSET', K.dead, id, '{"layout":1,"id":"' .. id .. '","kind":"message","died_at_ms":' .. json_moment(now)
    .. ',"reason_class":"unreadable","reason":"' .. reason .. '","attempts":[],"accepted_at_us":' .. json_moment(seq) .. '}')
  redis.call('ZADD', K.deadindex, now, id)
  count('received', 1)
  count('dead:unreadable', 1)
  forget_cursor(source, redis.sha1hex(message))
  redis.call('HDEL', K.intake, 'lost:' .. source)
  local alone = tonumber(redis.call('HGET', K.intake, 'alone:' .. source) or 0)
  if alone > 1 then
    redis.call('HSET', K.intake, 'alone:' .. source, alone - 1, 'lost:' .. source, 2)
  else
    redis.call('HDEL', K.intake, 'alone:' .. source)
  end
end

for _, source in ipairs(sources) do
  local messages, bytes, at = {}, 0, 1
  local ask = 1
  local alone, lost
  while #messages < most_messages and bytes < most_bytes do
    local state = redis.call('HMGET', K.intake, 'alone:' .. source, 'lost:' .. source)
    alone, lost = tonumber(state[1]) or 0, tonumber(state[2]) or 0
    if #messages == 0 and lost >= 3 and redis.call('EXISTS', source) == 1 then
      bury_message(source, 'Reading this message cost three readers their lease; it is kept as it came.')
    else
      local page = redis.call('LRANGE', source, -(at + ask - 1), -at)
      if #page == 0 then break end
      local stop = false
      for i = #page, 1, -1 do
        local message = page[i]
        if #message > largest then
          if #messages == 0 then
            bury_message(source, 'The message is larger than ' .. largest .. ' bytes; send fewer rows a message.')
          end
          stop = #messages > 0
          break
        end
        if #messages > 0 and bytes + #message > most_bytes then stop = true break end
        messages[#messages + 1] = message
        bytes = bytes + #message
        at = at + 1
        if alone > 0 or #messages >= most_messages then stop = true break end
      end
      if stop then break end
      -- Small first, because one message may have megabytes; then as many as surely fit.
      ask = math.max(1, math.min(ask * 4, most_messages - #messages, math.floor((most_bytes - bytes) / largest) + 16))
    end
  end
  if #messages > 0 then
    local tail = redis.sha1hex(messages[1])
    redis.call('HSET', K.intake, 'token', token, 'until', now + lease_ms, 'source', source, 'claimed', #messages,
      'tail', tail)
    local result = {'claimed', now_us, source, cursor_of(source, tail)}
    for i = 1, #messages do result[i + 4] = messages[i] end
    return result
  end
end
redis.call('HDEL', K.intake, 'token', 'until', 'source', 'claimed', 'tail')
return {'empty'}
