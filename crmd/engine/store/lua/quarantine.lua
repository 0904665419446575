#!lua flags=allow-oom
-- Takes an entry that cannot be read out of its queue and keeps it aside, the last 100.
-- KEYS  incomplete, leases, quarantine, counters, priorities, crashes, begun, unique_for
-- ARGV  id, lease token, entry (JSON), how many to keep, id prefix length, log prefix
-- Returns 1 when it did, 0 when the lease is another's or gone
local id = ARGV[1]
if redis.call('HGET', KEYS[2], id) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], id)
redis.call('ZREM', KEYS[1], id)
for i = 5, 8 do redis.call('HDEL', KEYS[i], id) end
redis.call('UNLINK', id, ARGV[6] .. string.sub(id, tonumber(ARGV[5]) + 1))
redis.call('RPUSH', KEYS[3], ARGV[3])
redis.call('LTRIM', KEYS[3], -tonumber(ARGV[4]), -1)
redis.call('HINCRBY', KEYS[4], 'quarantined', 1)
return 1
