#!lua flags=allow-oom
-- Renews a daemon's leases, and its entries for those who look. The entry in the list differs from those of the moments
-- before, whatever the clock says: by that others see that the daemon lives.
-- KEYS  daemons, info, jobs, unique_for
-- ARGV  instance id, lease (ms), info (JSON, empty: the entries as they are), its TTL (s), names of its jobs (JSON), then the
--       queues, each with its unique_for (ms)
-- Returns the store's time in ms
--@include _time
local now = now_ms()
local MOMENT_MS = 1000
local expires, last = now + tonumber(ARGV[2]), tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if last >= expires and last - expires < MOMENT_MS then expires = last + 1 end
redis.call('ZADD', KEYS[1], string.format('%.0f', expires), ARGV[1])
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
  redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[4])
  -- What somebody else put there may not keep anybody's leases from being renewed, nor adders from learning of it.
  if #ARGV > 5 then
    local reply = redis.pcall('HSET', KEYS[4], unpack(ARGV, 6))
    if type(reply) == 'table' and string.find(reply.err, 'WRONGTYPE', 1, true) then
      redis.call('UNLINK', KEYS[4])
      redis.call('HSET', KEYS[4], unpack(ARGV, 6))
    end
  end
end
return now
