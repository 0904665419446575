#!lua
-- Queues a finished job again by hand, attempts from 0, its history kept.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown
-- ARGV  id, JSON to write (status queued), priority (0: none), log key, timeline entry, wake channel, queue name,
--       completed too (1) or only failed and cancelled (0), unique key
-- Returns 1 queued, 0 it waits or runs, -1 its state does not allow it, -2 it is gone
--@include _lane
local id = ARGV[1]
if redis.call('ZSCORE', KEYS[2], id) or redis.call('HEXISTS', KEYS[3], id) == 1 then return 0 end
if redis.call('EXISTS', id) == 0 then return -2 end
if ARGV[8] == '0' and redis.call('ZSCORE', KEYS[7], id) then return -1 end
if ARGV[3] ~= '0' then redis.call('HSET', KEYS[5], id, ARGV[3]) end
local ranked = to_lane(id, KEYS[1], KEYS[4], KEYS[5], KEYS[6], false)
for i = 7, 9 do redis.call('ZREM', KEYS[i], id) end
redis.call('SREM', KEYS[10], id)
redis.call('SET', id, ARGV[2])
redis.call('UNLINK', ARGV[9]) -- an unknown job held it; a live one has it anyway, and its end decides again
redis.call('ZADD', KEYS[2], 0, id)
redis.call('RPUSH', ARGV[4], ARGV[5])
redis.call('LTRIM', ARGV[4], -50, -1)
if ranked then redis.call('PUBLISH', ARGV[6], ARGV[7]) end
redis.call('PUBLISH', id, 'queued')
return 1
