#!lua flags=allow-oom
-- One trip of a worker: writes the acks of jobs of one queue, then leases waiting jobs.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, active,
--       crashes, begun, minutes, suspects, starts, buckets, override, blocked, paused, parked, unique_for
-- ARGV  id prefix, log prefix, unique prefix, crashes after which a job runs in isolation, then what _claim takes, then the
--       acks as _settle has them
-- Returns what settle answers, and then what claim answers, or an error
--@include _trip
--@include _settle
--@include _claim
local FIRST_OF_CLAIM, FIRST_ACK = 5, 18
local k = trip()
local written = settle(k, FIRST_ACK)
-- An error of the claim must not hide that the acks are written.
local done, claimed = pcall(claim, k, FIRST_OF_CLAIM)
if not done then claimed = redis.error_reply(type(claimed) == 'table' and claimed.err or tostring(claimed)) end
return { written[1], written[2], claimed }
