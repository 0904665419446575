#!lua flags=allow-oom
-- Publishes terminal statuses a second time, for plain SAQ clients that looked just before the end and subscribed just after it.
-- ARGV  for each job: id, status
-- Returns how many were published; 0 when no plain client listens
if redis.call('PUBSUB', 'NUMPAT') == 0 then return 0 end
for a = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[a], ARGV[a + 1]) end
return #ARGV / 2
