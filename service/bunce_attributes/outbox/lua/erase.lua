-- Waiting updates of a forgotten customer leave; those in a call cannot.
-- KEYS[1] namespace. ARGV: 1 now ms (unused), then digests, at most a few hundred.
-- Results: {updates erased, digest of each that is in a call...}
free_first()
local erased, results = 0, {0}
for i = 2, #ARGV do
  local digest = ARGV[i]
  local text = redis.call('HGET', K.rows, digest)
  if text then
    local r = unpack_record(text)
    redis.call('HDEL', K.rows, digest)
    -- Entries in the ready lists and groups lead nowhere now, and leave when their turn comes.
    if r.place == LATER then redis.call('ZREM', K.later, digest) end
    if r.place == BRAKED then redis.call('LREM', K.braked .. attribute_of(r.body), 0, digest) end
    erased = erased + 1
  end
  if redis.call('HEXISTS', K.inflight, digest) == 1 then results[#results + 1] = digest end
end
count('purged', erased)
results[1] = erased
return results
