-- Dead letters leave for good.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 version memory ms, then ids, at most a few hundred.
-- Results: how many there were.
free_first()
local now, memory_ms = clock(ARGV[1]), tonumber(ARGV[2])
local purged = 0
for i = 3, #ARGV do
  local l = read_letter(ARGV[i])
  if l then
    remove_letter(ARGV[i], l, now, memory_ms)
    purged = purged + 1
  end
end
return purged
