#!lua
-- Sets or takes away a queue's limit by hand, and wakes its workers.
-- KEYS  override
-- ARGV  ms that it lasts (0: for good), wake channel, queue, then name, value, … of the limit (none: takes it away)
-- Returns 1
--@include _replace_hash
replace_hash(KEYS[1], ARGV[1], 4)
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
