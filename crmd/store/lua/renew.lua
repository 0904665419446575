#!lua flags=allow-oom
-- Renews a daemon's leases, and its entries for those who look. The list's entry differs from the one before, whatever
-- the clock says: others see by that that the daemon lives.
-- KEYS  daemons, info, jobs
-- ARGV  epoch, lease (ms), info (JSON, empty: both entries as they are), its TTL (s), names of its jobs (JSON)
-- Returns the store's time in ms
--@include _time
local now = now_ms()
local expires = now + tonumber(ARGV[2])
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == expires then expires = expires + 1 end
redis.call('ZADD', KEYS[1], string.format('%.0f', expires), ARGV[1])
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
  redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[4])
end
return now
