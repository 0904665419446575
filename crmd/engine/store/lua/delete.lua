#!lua flags=allow-oom
-- Deletes one job that does not run, with all that belongs to it. The key of one that completed, or may have, stays
-- taken for its unique_for: a request that is repeated must not do it again.
-- KEYS  queued, incomplete, leases, priority, suspects, completed, failed, cancelled, unknown, priorities, crashes,
--       unique_for
-- ARGV  id, log key, unique key, longest lane to search for the id
-- Returns 1 deleted, 0 it runs, -1 there is no such job
local id = ARGV[1]
if redis.call('HEXISTS', KEYS[3], id) == 1 then return 0 end
local holds = redis.call('ZSCORE', KEYS[6], id) or redis.call('SISMEMBER', KEYS[9], id) == 1
local known = redis.call('ZREM', KEYS[2], id) + redis.call('ZREM', KEYS[6], id) + redis.call('ZREM', KEYS[7], id)
  + redis.call('ZREM', KEYS[8], id) + redis.call('EXISTS', id)
if known == 0 then return -1 end
if redis.call('LLEN', KEYS[1]) <= tonumber(ARGV[4]) then redis.call('LREM', KEYS[1], 1, id) end
redis.call('ZREM', KEYS[4], id)
redis.call('LREM', KEYS[5], 1, id)
redis.call('SREM', KEYS[9], id)
redis.call('HDEL', KEYS[10], id)
redis.call('HDEL', KEYS[11], id)
redis.call('HDEL', KEYS[12], id)
redis.call('UNLINK', id, ARGV[2])
if not holds then redis.call('UNLINK', ARGV[3]) end
return 1
