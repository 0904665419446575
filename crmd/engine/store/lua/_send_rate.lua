-- Included: the rate at which messages leave for a service that counts what comes in with what goes out, and refuses what
-- is too much. The hash at KEYS[1] has `free_at` (ms): when the next send may start; `received` (a second): what comes in,
-- as of `at` (ms); `refused`: the rate that the service last refused; `cut_at` (ms): when that was.
-- Part of the limit stays free: what leaves evenly arrives with some jitter. And of what comes in the service knows a
-- moment earlier than we do, so that the more comes in, the more room is left for how unevenly it does.
local FREE_SHARE, FREE_PER_ROOT = 0.06, 1
local MEAN_MS = 10000
-- A refusal halves the rate. It recovers, by a share of what was refused each second, up to just below that; then slowly,
-- and faster as time goes by: the limit may be there, or may have passed.
local RECOVERY_SHARE, JUST_BELOW, DOUBLED_AFTER_S = 1 / 2, 0.97, 180
local LEAST = 1
-- After so long without a send connections are closed: what leaves evenly while they are opened arrives in a heap. So the
-- first second begins at half the rate, as after a refusal of what is just above the most.
local COLD_MS = 3000
-- Nobody has to wait for longer: a service that counts the last second has forgotten by then, and a clock that was set
-- back holds nothing up.
local LONGEST_DEBT_MS = 1000
local KEPT_MS = 3600000

local function rate_after(refused, seconds, most)
  local half, knee = math.max(LEAST, refused / 2), math.min(most, refused * JUST_BELOW)
  local rate = half + seconds * refused * RECOVERY_SHARE
  if rate < knee then return rate end
  local since = (seconds - math.max(0, knee - half) / (refused * RECOVERY_SHARE)) / DOUBLED_AFTER_S
  return math.min(most, knee + refused * since * since)
end

-- The state as of `now`; `limit` is what the service takes in a second.
local function send_rate(now, limit)
  local s = redis.call('HMGET', KEYS[1], 'free_at', 'received', 'at', 'refused', 'cut_at')
  local received = (tonumber(s[2]) or 0) * math.exp(-math.max(0, now - (tonumber(s[3]) or now)) / MEAN_MS)
  local most = limit - math.max(limit * FREE_SHARE, math.min(limit / 2, FREE_PER_ROOT * (1 + math.sqrt(received))))
  local rate, refused, cut_at = most, tonumber(s[4]), tonumber(s[5])
  if refused and cut_at and cut_at <= now then rate = rate_after(refused, (now - cut_at) / 1000, most) end
  return {
    now = now, rate = rate, interval = 1000 / rate, received = received, free_at = tonumber(s[1]) or 0,
    refused = rate < most and refused or nil, cut_at = rate < most and cut_at or nil,
  }
end

-- When a send may start at the latest, whatever stands in `free_at`.
local function longest(state) return state.now + LONGEST_DEBT_MS + state.interval end

local function warm_up(state)
  state.refused, state.cut_at, state.rate = state.rate / JUST_BELOW, state.now, state.rate / 2
  state.interval = 1000 / state.rate
end

local function keep(state)
  state.free_at = math.min(state.free_at, longest(state))
  redis.call('HSET', KEYS[1], 'free_at', string.format('%.3f', state.free_at),
    'received', string.format('%.6f', state.received), 'at', string.format('%.0f', state.now))
  if state.refused then
    redis.call('HSET', KEYS[1], 'refused', string.format('%.6f', state.refused), 'cut_at', string.format('%.0f', state.cut_at))
  else
    redis.call('HDEL', KEYS[1], 'refused', 'cut_at')
  end
  redis.call('PEXPIRE', KEYS[1], KEPT_MS)
end
