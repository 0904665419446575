#!lua flags=allow-oom
-- Notes that a running job begins an effect that cannot be repeated: if its outcome is lost, it is unknown.
-- KEYS  leases, begun, incomplete
-- ARGV  id, lease token
-- Returns 1; 0 when the lease is another's or gone, or an abort came first: then the effect must not happen
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
