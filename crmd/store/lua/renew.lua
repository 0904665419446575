#!lua flags=allow-oom
-- Renews a daemon's leases.
-- KEYS  daemons
-- ARGV  epoch, lease (ms)
-- Returns the store's time in ms
--@include _time
local now = now_ms()
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return now
