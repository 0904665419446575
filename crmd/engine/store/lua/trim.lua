#!lua flags=allow-oom
-- Deletes finished jobs that are over the counts or the age, a bounded batch of each kind.
-- KEYS  completed, failed, cancelled, unknown, incomplete, leases, unique_for
-- ARGV  id prefix length, log prefix, keep completed, keep failed, keep_min (ms), hard cap, keep_age (ms; 0: none), batch
-- Returns how many went
--@include _time
--@include _trim
local k = { unknown = KEYS[4], incomplete = KEYS[5], leases = KEYS[6], unique_for = KEYS[7], prefix_length = tonumber(ARGV[1]),
  log_prefix = ARGV[2] }
local keep_min, hard, keep_age, batch = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local now, gone = now_ms(), 0
for i, keep in ipairs({ tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[3]) }) do
  gone = gone + trim(KEYS[i], keep, now, keep_min, hard, keep_age, batch, k)
end
return gone
