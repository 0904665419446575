-- Included: the clock by which limits count. It is the store's, corrected by what somebody set that by. A daemon knows by
-- its own monotonic clock between which times its trip must run.

--@include _limit_margins

-- `last`: the latest time at which something started under a limit; `told`: where in ARGV the daemon says the earliest and
-- the latest time, the correction that they are for (empty: it has not seen the clock yet), and whether a clock that is
-- ahead was set forward (1) or its trip may have been slow (0). Returns the clock, its correction, and why nothing may start
-- yet, if so: unsure or corrected.
local function limit_clock(counters, now, correction, last, told)
  local clock, known = now + correction, tonumber(ARGV[told + 2])
  local earliest, latest = tonumber(ARGV[told]), tonumber(ARGV[told + 1])

  local function expected(at) return at >= earliest - LIMIT_TOLERANCE_MS and at <= latest + LIMIT_TOLERANCE_MS end

  -- Where the store's own time is as expected and the correction is another, somebody corrected it for a step that came
  -- before this daemon's first look, and knows more.
  local wrong = known and not expected(clock) and (known == correction or not expected(now + known))
  if wrong and clock > latest and ARGV[told + 3] == '0' then return clock, correction, 'unsure' end
  local right = wrong and math.max(earliest, last) or last
  if clock >= right - LIMIT_TOLERANCE_MS and not wrong then return clock, correction end
  redis.call('HSET', counters, 'correction', string.format('%.0f', right - now))
  return right, right - now, 'corrected'
end
