#!lua flags=no-writes
-- Says which of the jobs that a daemon runs were aborted, and which it no longer holds.
-- KEYS  incomplete, leases
-- ARGV  for each job: id, lease token
-- Returns for each job: 1 ours, 0 the lease is another's or gone, -1 aborted, -2 its JSON asks for it
--@include _aborting
local ids = {}
for a = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[a] end
local held = redis.call('HMGET', KEYS[2], unpack(ids))
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ids))
local answers = {}
for i = 1, #ids do
  if held[i] ~= ARGV[2 * i] then
    answers[i] = 0
  elseif not scores[i] then
    answers[i] = -1
  else
    answers[i] = says_aborting(ids[i]) and -2 or 1
  end
end
return answers
