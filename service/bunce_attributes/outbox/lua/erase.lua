-- Waiting updates of a forgotten customer leave; those in a call cannot.
-- The hold of their keys stays: the API may yet apply a call that they were in.
-- KEYS[1] namespace. ARGV: 1 now ms (0 = Redis' clock), 2 version memory ms, then digests, at most a few hundred.
-- Results: {updates erased, digest of each that is in a call...}
free_first()
local now, memory_ms = clock(ARGV[1]), tonumber(ARGV[2])
local erased, results, grouped = 0, {0}, nil
for i = 3, #ARGV do
  local digest = ARGV[i]
  local text = redis.call('HGET', K.rows, digest)
  if text then
    local r = unpack_record(text)
    redis.call('HDEL', K.rows, digest)
    -- Entries in the ready lists lead nowhere now, and leave when their turn comes.
    if r.place == GROUP then
      grouped = grouped or {}
      grouped[digest] = true
    end
    if r.place == LATER then redis.call('ZREM', K.later, digest) end
    if r.place == BRAKED then redis.call('LREM', K.braked .. attribute_of(r.body), 0, digest) end
    if r.not_before > now and memory_ms > 0 then remember(digest, now, memory_ms, 0, 0, r.not_before) end
    erased = erased + 1
  end
  if redis.call('HEXISTS', K.inflight, digest) == 1 then results[#results + 1] = digest end
end
-- A group keeps what failed and how often: a later value of the key must not be taken for a part of it.
if grouped then
  for _, group in ipairs(redis.call('ZRANGE', K.groups, 0, -1)) do
    for _, digest in ipairs(redis.call('LRANGE', K.group .. group, 0, -1)) do
      if grouped[digest] then redis.call('LREM', K.group .. group, 0, digest) end
    end
  end
end
count('purged', erased)
results[1] = erased
return results
