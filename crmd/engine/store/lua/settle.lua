#!lua flags=allow-oom
-- One trip of a worker that claims nothing: writes the acks of jobs of one queue.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, active,
--       crashes, begun, minutes, suspects, starts, buckets, override, blocked, paused, parked, unique_for
-- ARGV  id prefix, log prefix, unique prefix, crashes after which a job runs in isolation, then the acks as _settle has them
-- Returns {stale ids, whose lease is another's or gone; ids that an abort took while they ran and that still hold their
--          lease: settle them as aborted}
--@include _trip
--@include _settle
local FIRST_ACK = 5
return settle(trip(), FIRST_ACK)
