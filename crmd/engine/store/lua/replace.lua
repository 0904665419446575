#!lua flags=allow-oom
-- Writes a job's JSON if it still is as it was read.
-- ARGV  id, JSON as it was read, JSON to write, status to publish
-- Returns 1 written, 0 it changed
if redis.call('GET', ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SET', ARGV[1], ARGV[3], 'KEEPTTL')
redis.call('PUBLISH', ARGV[1], ARGV[4])
return 1
