-- Included: deletes the oldest of a finished-jobs index, a bounded batch, and says how many are still over.
-- A job stays readable for keep_min_ms, unless more than `hard` are over the count. An id that is live again
-- leaves the index only: its JSON belongs to the new run.
local function trim(index, keep, now, keep_min_ms, hard, keep_age_ms, batch, k)
  local size = redis.call('ZCARD', index)
  local over = size - keep
  if size == 0 or (over <= 0 and keep_age_ms <= 0) then return 0 end
  local oldest = redis.call('ZRANGE', index, 0, batch - 1, 'WITHSCORES')
  local gone, doomed = {}, {}
  for i = 1, #oldest, 2 do
    local id, ended = oldest[i], tonumber(oldest[i + 1])
    local rank = (i - 1) / 2
    local crowded = rank < over and (now - ended >= keep_min_ms or over - rank > hard)
    local aged = keep_age_ms > 0 and now - ended > keep_age_ms
    if not (crowded or aged) then break end
    gone[#gone + 1] = id
    if not redis.call('ZSCORE', k.incomplete, id) and redis.call('HEXISTS', k.leases, id) == 0 then
      doomed[#doomed + 1] = id
      doomed[#doomed + 1] = k.log_prefix .. string.sub(id, k.prefix_length + 1)
    end
  end
  if #gone > 0 then
    redis.call('ZREM', index, unpack(gone))
    redis.call('SREM', k.unknown, unpack(gone))
  end
  if #doomed > 0 then redis.call('UNLINK', unpack(doomed)) end
  return #gone
end
