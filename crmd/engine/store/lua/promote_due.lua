#!lua flags=allow-oom
-- Moves a batch of the delayed jobs of one queue that are due into their lanes, and claims nothing.
-- KEYS  queued, incomplete, priority, priorities, counters
-- ARGV  none
-- Returns in how many ms the next delayed job is due (0: more are due now; -1: there is none)
--@include _time
--@include _promote
local k = { queued = KEYS[1], incomplete = KEYS[2], priority = KEYS[3], priorities = KEYS[4], counters = KEYS[5], now = now_ms() }
promote(k)
local due = next_due(k.incomplete, k.now)
return due and math.max(0, due) or -1
