#!lua flags=allow-oom
-- Writes the state of running jobs: active after 50 ms, progress later. What the lease does not cover is left alone.
-- KEYS  incomplete, leases, active, crashes
-- ARGV  for each job: id, lease token, JSON, flags (1: it becomes active now, 2: it got further than in the deliveries
--       that were lost, which count no more; 3: both)
-- Returns for each job: 1 written, 0 the lease is another's or gone, -1 an abort took the job, -2 its JSON asks for one
--@include _aborting
local incomplete, leases, active, crashes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local written = {}
for a = 1, #ARGV, 4 do
  local id, flags = ARGV[a], tonumber(ARGV[a + 3])
  if redis.call('HGET', leases, id) ~= ARGV[a + 1] then
    written[#written + 1] = 0
  else
    -- The id shows as active even when an abort came first: settle takes it out again.
    if flags % 2 == 1 then redis.call('RPUSH', active, id) end
    if not redis.call('ZSCORE', incomplete, id) then
      written[#written + 1] = -1
    elseif says_aborting(id) then
      written[#written + 1] = -2
    else
      redis.call('SET', id, ARGV[a + 2])
      if flags >= 2 then redis.call('HDEL', crashes, id) end
      redis.call('PUBLISH', id, 'active')
      written[#written + 1] = 1
    end
  end
end
return written
