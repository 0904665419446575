#!lua flags=no-writes
-- What a daemon looks at once a second, for all of its queues in one trip.
-- KEYS  daemons, then for each queue: incomplete, completed, failed, cancelled
-- ARGV  for each queue: keep completed, keep failed, keep_min (ms), keep_age (ms; 0: none)
-- Returns {store time in ms, {instance id, entry of each listed daemon},
--          {for each queue: ms until the next delayed job is due (-1: none)},
--          {for each queue: 1 when finished jobs want trimming}}
--@include _time
local now = now_ms()
local due, untrimmed = {}, {}

local function wants_trim(index, keep, keep_min, keep_age)
  local size = redis.call('ZCARD', index)
  if size == 0 or (size <= keep and keep_age == 0) then return false end
  local age = now - tonumber(redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2])
  return (size > keep and age >= keep_min) or (keep_age > 0 and age > keep_age)
end

local function observe(k, a)
  local first = redis.call('ZRANGEBYSCORE', KEYS[k], '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local completed, failed = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  local keep_min, keep_age = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  return first[2] and math.max(0, math.ceil(tonumber(first[2]) * 1000 - now)) or -1,
    wants_trim(KEYS[k + 1], completed, keep_min, keep_age)
    or wants_trim(KEYS[k + 2], failed, keep_min, keep_age)
    or wants_trim(KEYS[k + 3], completed, keep_min, keep_age)
end

-- A queue with a structure of the wrong type is passed over: the others are not to suffer for it.
for q = 0, (#KEYS - 1) / 4 - 1 do
  local whole, next_due, wanted = pcall(observe, 2 + q * 4, 1 + q * 4)
  due[#due + 1] = whole and next_due or -1
  untrimmed[#untrimmed + 1] = whole and wanted and 1 or 0
end
local DAEMONS = 1000
return { now, redis.call('ZRANGE', KEYS[1], 0, DAEMONS - 1, 'WITHSCORES'), due, untrimmed }
