-- Included: what the clock of limits allows for.

-- A daemon's own clock and a trip are exact to so much. A step that is smaller goes unnoticed.
local LIMIT_TOLERANCE_MS = 100
-- How much faster one clock may run than the other, as limit_clock.py has it.
local LIMIT_DRIFT = 0.001
-- Keys of limits live by the store's own time. They stay longer than they count by so much, for a clock that is set
-- forward.
local LIMIT_SLACK_MS = 3900000
