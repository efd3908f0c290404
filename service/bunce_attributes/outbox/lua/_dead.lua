-- Dead letters as they lie in Redis; needs _common.lua. They are read as text, by their fixed beginning: the JSON of
-- a row that was never valid may be nested deeper, or hold stranger characters, than cjson decodes.

-- Results: nil if there is no such dead letter, else its kind, reason class and, of an update, the digest of its key
-- and (where the text after the key's members begins) its members.
local function read_letter(id)
  local text = redis.call('HGET', K.dead, id)
  if not text then return nil end
  local kind, class = string.match(text,
    '^{"layout":1,"id":"[^"]*","kind":"(%a+)","died_at_ms":%d+, ?"reason_class": ?"([%w_]+)"')
  if not kind then
    error('LAYOUT a dead letter was written by a later release of bunce-attributes; upgrade this one')
  end
  local l = {kind = kind, class = class}
  if kind == 'update' then
    -- No JSON string holds `","key":"`: its quotes are escaped.
    local _, last, key, lane, seq, occ = string.find(text,
      '","key":"(%x+)","lane":"(%a+)","accepted_at_us":(%w+),"occurred_at_us":(%w+),"waiting_since_ms":%w+,"attempts":%[')
    local row_at, body_at = string.find(text, '],"row":', last, true)
    l.digest = (string.gsub(key, '%x%x', function(pair) return string.char(tonumber(pair, 16)) end))
    l.lane, l.seq, l.occ = lane, tonumber(seq) or 0, tonumber(occ) or 0
    l.history, l.body = string.sub(text, last + 1, row_at - 1), string.sub(text, body_at + 1, -2)
  end
  return l
end

-- A dead letter leaves. With the last one of its key its mark goes; for as long as versions are remembered
-- (memory_ms; nil: they need not be), the key still knows its newest version and a hold that is not over.
local function remove_letter(id, l, now, memory_ms)
  redis.call('HDEL', K.dead, id)
  redis.call('HDEL', K.deadraw, id)
  redis.call('ZREM', K.deadindex, id)
  local mark = l.digest and redis.call('HGET', K.marks, l.digest)
  if mark then
    local m = read_mark(mark)
    m.n = m.n - 1
    if m.n > 0 then
      write_mark(l.digest, m)
    else
      redis.call('HDEL', K.marks, l.digest)
      if memory_ms and memory_ms > 0 then
        remember(l.digest, now, memory_ms, m.seq, m.occ, m.not_before)
      end
    end
  end
  count('purged', 1)
  count('dead_left:' .. l.class, 1)
end
