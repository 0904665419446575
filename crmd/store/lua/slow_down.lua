#!lua flags=allow-oom
-- The outside asked to slow down: holds the whole queue, or the limit keys of one job, for a while.
-- KEYS  blocked, parked
-- ARGV  milliseconds, limit prefix, then the limit keys (none: the whole queue)
-- Returns the time, in ms, until which it holds
--@include _time
local ms = tonumber(ARGV[1])
local till = now_ms() + ms
if #ARGV == 2 then
  if redis.call('PTTL', KEYS[1]) < ms then redis.call('SET', KEYS[1], string.format('%.0f', till), 'PX', ms) end
  return till
end
for i = 3, #ARGV do
  local key = ARGV[2] .. ARGV[i]
  redis.call('HSET', key, 'blocked', string.format('%.0f', till))
  if redis.call('PTTL', key) < ms + 60000 then redis.call('PEXPIRE', key, ms + 60000) end
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then redis.call('ZADD', KEYS[2], string.format('%.0f', till), ARGV[i]) end
end
return till
