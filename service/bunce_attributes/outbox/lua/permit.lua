-- Takes a permit for a request that carries no rows (`check`); needs neither slot nor open gate, but obeys the limit.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 id, 3 gate settings (JSON).
-- Results: ms to wait, 0 if the permit was taken.
free_first()
local now = clock(ARGV[1])
gate_settings(ARGV[3])
local wait = permit_wait(now)
if wait > 0 then return math.ceil(wait) end
take_permit(now, ARGV[2], now + GATE.lease_ms)
return 0
