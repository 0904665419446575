#!lua flags=allow-oom
-- Ends an unknown job as completed or failed, once it is known what became of it. The counts of all time stay.
-- KEYS  incomplete, leases, completed, failed, unknown, unique_for
-- ARGV  id, JSON as it was read, JSON to write, completed (1) or failed (0), log key, timeline entry, unique key
-- Returns 1 settled, 0 it is not unknown, or its JSON changed
--@include _time
local id, completed = ARGV[1], ARGV[4] == '1'
if redis.call('SISMEMBER', KEYS[5], id) == 0 or redis.call('GET', id) ~= ARGV[2] then return 0 end
if redis.call('ZSCORE', KEYS[1], id) or redis.call('HEXISTS', KEYS[2], id) == 1 then return 0 end
if completed then
  -- Its end is now: the kept jobs of an index go by that.
  redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms()), id)
  redis.call('ZREM', KEYS[4], id)
end
redis.call('SREM', KEYS[5], id)
local span = redis.call('HGET', KEYS[6], id)
if not completed then
  redis.call('UNLINK', ARGV[7])
elseif span then
  redis.call('SET', ARGV[7], 'completed', 'PX', span)
end
redis.call('SET', id, ARGV[3], 'KEEPTTL')
redis.call('RPUSH', ARGV[5], ARGV[6])
redis.call('LTRIM', ARGV[5], -50, -1)
redis.call('PUBLISH', id, completed and 'complete' or 'failed')
return 1
