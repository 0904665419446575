#!lua
-- Makes a delayed job wait for its turn now.
-- KEYS  queued, incomplete, leases, priority, priorities, counters
-- ARGV  id, wake channel, queue name
-- Returns 1 promoted, 0 it is not delayed
--@include _lane
local id = ARGV[1]
local score = redis.call('ZSCORE', KEYS[2], id)
if not score or tonumber(score) == 0 or redis.call('HEXISTS', KEYS[3], id) == 1 then return 0 end
local ranked = to_lane(id, KEYS[1], KEYS[4], KEYS[5], KEYS[6], false)
redis.call('ZADD', KEYS[2], 0, id)
if ranked then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return 1
