#!lua flags=allow-oom
-- Renews a daemon's leases, and its entry for those who look.
-- KEYS  daemons, info
-- ARGV  epoch, lease (ms), info (JSON, empty: as it is), its TTL (s)
-- Returns the store's time in ms
--@include _time
local now = now_ms()
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4]) end
return now
