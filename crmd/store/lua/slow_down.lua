#!lua flags=allow-oom
-- The outside asked to slow down: holds the whole queue, or the limit keys of one job, for a while. The longest
-- hold that was asked for stands.
-- KEYS  blocked, parked
-- ARGV  milliseconds, limit prefix, then the limit keys (none: the whole queue)
-- Returns the time, in ms, until which this call holds
--@include _time
local ms = tonumber(ARGV[1])
local till = now_ms() + ms
if #ARGV == 2 then
  if redis.call('PTTL', KEYS[1]) < ms then redis.call('SET', KEYS[1], string.format('%.0f', till), 'PX', ms) end
  return till
end
for i = 3, #ARGV do
  local key = ARGV[2] .. ARGV[i]
  if till > tonumber(redis.call('HGET', key, 'blocked') or 0) then
    redis.call('HSET', key, 'blocked', string.format('%.0f', till))
  end
  if redis.call('PTTL', key) < ms + 60000 then redis.call('PEXPIRE', key, ms + 60000) end
  redis.call('ZADD', KEYS[2], 'XX', 'GT', string.format('%.0f', till), ARGV[i])
end
return till
