#!lua flags=no-writes
-- Says which of the jobs that a daemon runs were aborted, and which it no longer holds.
-- KEYS  incomplete, leases
-- ARGV  for each job: id, lease token
-- Returns for each job: 1 ours, 0 the lease is another's or gone, -1 aborted
local ids = {}
for a = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[a] end
local held = redis.call('HMGET', KEYS[2], unpack(ids))
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
local verdicts = {}
for i = 1, #ids do
  verdicts[i] = held[i] ~= ARGV[2 * i] and 0 or (scores[i] and 1 or -1)
end
return verdicts
