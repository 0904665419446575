#!lua flags=allow-oom
-- Brings the abort of a plain SAQ client to its end, for a job that neither waits nor runs: the client leaves it in no structure.
-- KEYS  incomplete, leases, completed, failed, cancelled, counters, priorities, crashes
-- ARGV  id, JSON as it was read, JSON to write (status aborted; empty: it is final already), log key, timeline entry
-- Returns 1 when it did; 0 when the job lives, is indexed, or changed since it was read
--@include _time
local id = ARGV[1]
if redis.call('ZSCORE', KEYS[1], id) or redis.call('HEXISTS', KEYS[2], id) == 1 then return 0 end
for i = 3, 5 do
  if redis.call('ZSCORE', KEYS[i], id) then return 0 end
end
if redis.call('GET', id) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[7], id)
redis.call('HDEL', KEYS[8], id)
if ARGV[3] ~= '' then
  redis.call('SET', id, ARGV[3])
  redis.call('RPUSH', ARGV[4], ARGV[5])
  redis.call('PUBLISH', id, 'aborted')
end
redis.call('ZADD', KEYS[5], string.format('%.0f', now_ms()), id)
redis.call('HINCRBY', KEYS[6], 'cancelled', 1)
return 1
