-- Pauses everything, or one attribute, until `resume`.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 attribute id or ''.
-- Results: 1 if that changed anything, else 0.
free_first()
local now = clock(ARGV[1])
if ARGV[2] == '' then return redis.call('HSETNX', K.gate, 'manual', now) end
return redis.call('HSETNX', K.brakes, ARGV[2], cjson.encode({since_ms = now, by = 'operator', refused = 0, saved = 0}))
