-- Included: the clock by which limits count. It is the store's, corrected by what somebody set that by. A daemon knows by
-- its own monotonic clock between which times its trip must run.

--@include _limit_margins

-- `last`: the latest time at which something started under a limit; `told`: where in ARGV the daemon says the earliest and
-- the latest time, the correction that they are for (empty: it has not seen the clock yet), whether a clock that is
-- ahead was set forward (1) or its trip may have been slow (0), and the time it last saw; `corrected_at`: the store's own
-- time when the correction was made. Returns the clock, its correction, and why nothing may start yet, if so: unsure or
-- corrected.
local function limit_clock(counters, now, correction, corrected_at, last, told)
  local clock, known = now + correction, tonumber(ARGV[told + 2])
  local earliest, latest, seen = tonumber(ARGV[told]), tonumber(ARGV[told + 1]), tonumber(ARGV[told + 4])

  -- The two clocks may drift apart. What the clock is put right to leaves that out: it would run late by it, and count
  -- what starts meanwhile as earlier than it was.
  local margin = LIMIT_TOLERANCE_MS + LIMIT_DRIFT * math.max(0, earliest - seen)
  local function expected(at) return at >= earliest - margin and at <= latest + margin end

  -- Where the store's own time is as expected and the correction is another, somebody corrected it for a step that came
  -- before this daemon's first look, and knows more. Unless the correction was made at a time that the store's clock has
  -- not shown since this daemon last saw it: then the clock was set there, corrected, and set back again.
  local function was_right_before()
    return known ~= correction and expected(now + known) and corrected_at
      and corrected_at >= seen - known - LIMIT_TOLERANCE_MS and corrected_at <= now + LIMIT_TOLERANCE_MS
  end

  local wrong = known and not expected(clock) and not was_right_before()
  if wrong and clock > latest and ARGV[told + 3] == '0' then return clock, correction, 'unsure' end
  local right = wrong and math.max(earliest, last) or last
  if clock >= right - LIMIT_TOLERANCE_MS and not wrong then return clock, correction end
  redis.call('HSET', counters, 'correction', string.format('%.0f', right - now), 'corrected_at', string.format('%.0f', now))
  return right, right - now, 'corrected'
end
