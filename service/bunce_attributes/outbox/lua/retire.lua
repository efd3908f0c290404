-- Dead letters whose retention has ended leave; one worker at a time does this.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 retention ms, 3 most, 4 token of the worker,
-- 5 ms for which it is the one, 6 version memory ms.
-- Results: {purged, 1 if there are more for this worker, else 0}
free_first()
local now = clock(ARGV[1])
local before, most = now - tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', K.deadindex, '-inf', before, 'LIMIT', 0, most)
if #ids == 0 then return {0, 0} end
local turn = NS .. ':housekeeping'
local holder = redis.call('GET', turn)
if holder and holder ~= ARGV[4] then return {0, 0} end
redis.call('SET', turn, ARGV[4], 'PX', ARGV[5])
for _, id in ipairs(ids) do
  local l = read_letter(id)
  if l then remove_letter(id, l, now, tonumber(ARGV[6])) else redis.call('ZREM', K.deadindex, id) end
end
return {#ids, #ids == most and 1 or 0}
