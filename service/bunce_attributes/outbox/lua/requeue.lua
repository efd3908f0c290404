-- Dead letters that were never updates go back into the queue, as the messages that the caller made of them.
-- KEYS[1] namespace. ARGV: 1 now ms (unused), then for each dead letter: id, number of messages, messages.
-- Results: for each 1 if it was there, else 0.
free_first()
local results, at = {}, 2
while ARGV[at] do
  local id, n = ARGV[at], tonumber(ARGV[at + 1])
  local l = read_letter(id)
  if l then
    for i = at + 2, at + 1 + n do redis.call('LPUSH', NS, ARGV[i]) end
    remove_letter(id, l)
  end
  results[#results + 1] = l and 1 or 0
  at = at + 2 + n
end
return results
