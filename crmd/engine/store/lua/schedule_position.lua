#!lua
-- Looks at one schedule; begins it where it is new, where its times are others, or where the clock went far back.
-- KEYS  schedule
-- ARGV  its times as text (empty: as they are), furthest that its position may lie ahead (ms), time to live (ms)
-- Returns {now (ms), position (ms): what came due until then is dealt with, 1 when it is paused,
--          1 when the clock went far back}
--@include _time
local schedule, times, furthest = KEYS[1], ARGV[1], tonumber(ARGV[2])
local now = now_ms()
local known = redis.call('HMGET', schedule, 'times', 'position', 'paused_at')
local position = tonumber(known[2])
local back = position ~= nil and position - now > furthest
if not position or back or (times ~= '' and known[1] ~= times) then
  position = now
  redis.call('HSET', schedule, 'position', string.format('%.0f', now))
end
if times ~= '' then redis.call('HSET', schedule, 'times', times) end
-- A schedule that no daemon knows any more is forgotten after a while.
redis.call('PEXPIRE', schedule, ARGV[3])
return { now, position, known[3] and 1 or 0, back and 1 or 0 }
