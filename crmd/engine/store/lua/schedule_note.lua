#!lua
-- Notes a run that a person asked for: it was not due.
-- KEYS  schedule
-- ARGV  time to live (ms), queue, job's key
-- Returns 1
--@include _time
redis.call('HDEL', KEYS[1], 'due')
redis.call('HSET', KEYS[1], 'ran_at', string.format('%.0f', now_ms()), 'queue', ARGV[2], 'key', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
