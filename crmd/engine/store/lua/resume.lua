#!lua flags=allow-oom
-- Lets a queue go on: ends its pause and the hold that the outside asked for, and wakes its workers.
-- KEYS  paused, blocked, counters
-- ARGV  wake channel, queue
-- Returns 1
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HDEL', KEYS[3], 'blocked_until', 'blocked_under')
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
