#!lua flags=allow-oom
-- Lets a paused schedule go on from now: what came due in the pause is dealt with.
-- KEYS  schedule
-- ARGV  none
-- Returns 1 it goes on, 0 it was not paused
--@include _time
if redis.call('HEXISTS', KEYS[1], 'paused_at') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'position', string.format('%.0f', now_ms()))
redis.call('HDEL', KEYS[1], 'paused_at', 'paused_by', 'paused_reason')
return 1
