#!lua
-- Pauses a schedule from now.
-- KEYS  schedule
-- ARGV  time to live (ms), by whom, reason
-- Returns 1
--@include _time
redis.call('HSET', KEYS[1], 'paused_at', string.format('%.0f', now_ms()), 'paused_by', ARGV[2], 'paused_reason', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
