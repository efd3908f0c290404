-- Reads dead letters, until they are many bytes together: one may be as large as a message.
-- KEYS[1] namespace. ARGV: 1 now ms (unused), 2 most bytes, then ids.
-- Results: for the first ids, at least one, two values each: the dead letter or false, the raw message or false.
local result, bytes = {}, 0
for i = 3, #ARGV do
  local text, raw = redis.call('HGET', K.dead, ARGV[i]), redis.call('HGET', K.deadraw, ARGV[i])
  result[#result + 1] = text
  result[#result + 1] = raw
  bytes = bytes + #(text or '') + #(raw or '')
  if bytes >= tonumber(ARGV[2]) then break end
end
return result
