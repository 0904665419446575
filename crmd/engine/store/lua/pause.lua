#!lua
-- Pauses a queue, in the place of a pause that it may have.
-- KEYS  paused
-- ARGV  ms that it lasts (0: for good), then name, value, … of what is told of it
-- Returns 1
--@include _replace_hash
replace_hash(KEYS[1], ARGV[1], 2)
return 1
