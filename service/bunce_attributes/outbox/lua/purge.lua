-- Dead letters leave for good.
-- KEYS[1] namespace. ARGV: 1 now ms (unused), then ids, at most a few hundred.
-- Results: how many there were.
free_first()
local purged = 0
for i = 2, #ARGV do
  local l = read_letter(ARGV[i])
  if l then
    remove_letter(ARGV[i], l)
    purged = purged + 1
  end
end
return purged
