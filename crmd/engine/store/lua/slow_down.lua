#!lua flags=allow-oom
-- The outside asked to slow down: holds the whole queue, or the limit keys of one job, for a while. The longest
-- hold that was asked for stands.
-- KEYS  blocked, parked, counters
-- ARGV  milliseconds, limit prefix, five of the clock of limits, then the limit keys (none: the whole queue)
-- Returns {clock of limits (ms), its correction}
--@include _time
--@include _limit_margins
local FIRST_KEY = 8
local ms, now = tonumber(ARGV[1]), now_ms()
local correction = tonumber(redis.call('HGET', KEYS[3], 'correction') or 0)
local clock = now + correction
-- A claim corrects a clock that was set. Until then it is what the daemon takes it for.
if tonumber(ARGV[5]) == correction then
  clock = math.min(math.max(clock, tonumber(ARGV[3])), tonumber(ARGV[4]) + LIMIT_TOLERANCE_MS)
end
local till = clock + ms
if #ARGV < FIRST_KEY then
  if till > tonumber(redis.call('GET', KEYS[1]) or 0) then
    -- Daemons of 0.1.0 go by the string's time to live; a clock that is set forward ends that.
    local until_text = string.format('%.0f', till)
    redis.call('SET', KEYS[1], until_text, 'PX', ms)
    redis.call('HSET', KEYS[3], 'blocked_until', until_text, 'blocked_under', string.format('%.0f', correction))
  end
  return { now + correction, correction }
end
for i = FIRST_KEY, #ARGV do
  local key = ARGV[2] .. ARGV[i]
  if till > tonumber(redis.call('HGET', key, 'blocked') or 0) then
    redis.call('HSET', key, 'blocked', string.format('%.0f', till))
  end
  if redis.call('PTTL', key) < ms + LIMIT_SLACK_MS then redis.call('PEXPIRE', key, ms + LIMIT_SLACK_MS) end
  redis.call('ZADD', KEYS[2], 'XX', 'GT', string.format('%.0f', till), ARGV[i])
end
return { now + correction, correction }
