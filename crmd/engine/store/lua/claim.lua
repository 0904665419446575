#!lua flags=allow-oom
-- One trip of a worker that has nothing to settle: leases waiting jobs of one queue.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, active,
--       crashes, begun, minutes, suspects, starts, buckets, override, blocked, paused, parked, unique_for
-- ARGV  id prefix, log prefix, unique prefix, crashes after which a job runs in isolation, then what _claim takes
-- Returns what claim answers
--@include _trip
--@include _claim
local FIRST_OF_CLAIM = 5
return claim(trip(), FIRST_OF_CLAIM)
