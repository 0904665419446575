-- Included: deletes the oldest of a finished-jobs index, a bounded batch, and says how many went.
-- A job stays readable for keep_min_ms, unless more than `hard` are over the count. An id that is live again
-- leaves the index only: its JSON belongs to the new run.
local function trim(index, keep, now, keep_min_ms, hard, keep_age_ms, batch, k)
  local over = redis.call('ZCARD', index) - keep
  local gone = 0
  if over > 0 then
    local old = redis.call('ZCOUNT', index, '-inf', string.format('%.0f', now - keep_min_ms))
    gone = math.min(over, math.max(old, over - hard))
  end
  if keep_age_ms > 0 then
    gone = math.max(gone, redis.call('ZCOUNT', index, '-inf', string.format('(%.0f', now - keep_age_ms)))
  end
  gone = math.min(gone, batch)
  if gone <= 0 then return 0 end
  local ids = redis.call('ZRANGE', index, 0, gone - 1)
  local scores, held = redis.call('ZMSCORE', k.incomplete, unpack(ids)), redis.call('HMGET', k.leases, unpack(ids))
  local doomed, gone_ids = {}, {}
  for i, id in ipairs(ids) do
    if not scores[i] and not held[i] then
      gone_ids[#gone_ids + 1] = id
      doomed[#doomed + 1] = id
      doomed[#doomed + 1] = k.log_prefix .. string.sub(id, k.prefix_length + 1)
    end
  end
  if redis.call('EXISTS', k.unknown, k.unique_for) > 0 then
    redis.call('SREM', k.unknown, unpack(ids))
    if #gone_ids > 0 then redis.call('HDEL', k.unique_for, unpack(gone_ids)) end
  end
  redis.call('ZREMRANGEBYRANK', index, 0, gone - 1)
  if #doomed > 0 then redis.call('UNLINK', unpack(doomed)) end
  return gone
end
