#!lua flags=no-writes
-- How many jobs of one queue are in each state, and what holds it.
-- KEYS  queued, incomplete, leases, priority, completed, failed, cancelled, unknown, paused, override, blocked,
--       starts, buckets, counters, minutes, parked
-- ARGV  rate count in the configuration (0: none), rate period (ms), parked prefix
-- Returns {now (ms), waiting, delayed, active, completed, failed, cancelled, unknown, pause (flat hash),
--          override (flat hash), blocked until (ms; 0: not), starts left (-1: no limit),
--          JSON of those that have waited longest, counters (flat hash), minutes (flat hash)}
--@include _time
--@include _rolling_rate
local now = now_ms()

-- A structure of the wrong type counts as empty: whoever asks wants to see the others.
local function ask(nothing, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then return nothing end
  return reply
end

local leased = ask(0, 'HLEN', KEYS[3])
local waiting = math.max(0, ask(0, 'ZCOUNT', KEYS[2], 0, 0) - leased)
local override = ask({}, 'HGETALL', KEYS[10])
local chosen = ask({}, 'HMGET', KEYS[10], 'count', 'period_ms')
local count, period = tonumber(chosen[1] or ARGV[1]), tonumber(chosen[2] or ARGV[2])
local counted = ask({}, 'HMGET', KEYS[14], 'correction', 'blocked_until', 'blocked_under')
local correction = tonumber(counted[1] or 0)
local kept = counted[2] and tonumber(counted[3]) ~= correction and tonumber(counted[2]) or 0
local blocked_until = math.max(kept, tonumber(ask(0, 'GET', KEYS[11]) or 0)) - correction
local left = -1
if count > 0 then
  local whole, allowance = pcall(rolling_rate(KEYS[12], KEYS[13], count, period, now + correction).allowance, count)
  left = whole and allowance or 0
end

local heads = { ask(false, 'LINDEX', KEYS[1], 0) or nil }
heads[#heads + 1] = ask({}, 'ZRANGE', KEYS[4], 0, 0)[1]
for _, name in ipairs(ask({}, 'ZRANGE', KEYS[16], 0, 9)) do
  heads[#heads + 1] = ask(false, 'LINDEX', ARGV[3] .. name, 0) or nil
end
local oldest = {}
for _, id in ipairs(heads) do
  oldest[#oldest + 1] = ask(false, 'ZSCORE', KEYS[2], id) and redis.call('MGET', id)[1] or nil
end

return { now, waiting, ask(0, 'ZCOUNT', KEYS[2], '(0', '+inf'), leased,
  ask(0, 'ZCARD', KEYS[5]), ask(0, 'ZCARD', KEYS[6]), ask(0, 'ZCARD', KEYS[7]), ask(0, 'SCARD', KEYS[8]),
  ask({}, 'HGETALL', KEYS[9]), override, blocked_until > now and blocked_until or 0, left, oldest,
  ask({}, 'HGETALL', KEYS[14]), ask({}, 'HGETALL', KEYS[15]) }
