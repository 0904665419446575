#!lua
-- Adds jobs to one queue, each unless its key is taken: waiting, delayed, active, or held by unique_for.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, crashes, unique_for
-- ARGV  wake channel, queue name, id prefix length, log prefix, unique prefix, width, then for each job:
--       id, JSON, and where the width is 7 and not 2: delay (ms from now; -1: none), due (epoch ms; -1: none), priority
--       (0: none), unique_for (ms that the key stays taken after the job completed; 0: none), again (1: a key that
--       only unique_for holds is free)
-- Returns for each job: 1 created, 0 the key was taken
--@include _time
--@include _lane
local FIRST = 7
--@include _enqueue
return enqueue()
