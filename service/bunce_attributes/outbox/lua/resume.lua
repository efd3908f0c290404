-- Ends a pause by an operator, or releases the rows of one attribute, a thousand at a time.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 attribute id or '', 3 '1' to switch the brake off for
-- this attribute for a day, so that its refused rows may die.
-- Results: {1 if that changed anything, rows moved, rows still to be moved (call again)}
free_first()
local now = clock(ARGV[1])
local attribute = ARGV[2]
if attribute == '' then return {redis.call('HDEL', K.gate, 'manual'), 0, 0} end
local changed = redis.call('HDEL', K.brakes, attribute)
redis.call('HDEL', K.tallies, attribute)
redis.call('HSET', K.tallies, 'resumed:' .. attribute, now)
if ARGV[3] == '1' then redis.call('HSET', K.tallies, 'free:' .. attribute, now + 86400000) end
local moved, left = release_braked(attribute, now, 1000)
return {changed, moved, left}
