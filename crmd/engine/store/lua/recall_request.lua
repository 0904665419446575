#!lua flags=no-writes
-- Looks whether a request was made before, for when the store is too full to take a new one: a repeat adds nothing.
-- KEYS  requests, incomplete, leases
-- ARGV  digest of whose request it is (12 bytes), fingerprint of its jobs (8 bytes), id prefix, then its jobs' ids
-- Returns {again, time of the first's keys, which of its jobs were not created, 1 if as run lengths and not as bits}, {differs}:
--          the first had other jobs, or {unknown}
--@include _time
--@include _first_answer
local FIRST = 4
return first_answer(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], FIRST, 1) or { 'unknown' }
