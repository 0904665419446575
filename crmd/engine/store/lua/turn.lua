#!lua flags=allow-oom
-- One trip of a worker: writes the outcomes of jobs of one queue, then leases waiting jobs.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, active,
--       crashes, begun, minutes, suspects, starts, buckets, override, blocked, paused, parked, unique_for
-- ARGV  slots (-1: no claim, 0: promote only), lease token, alone (1: one suspect and nothing else), rate count (0: no
--       limit), rate period (ms), keyed limits (JSON, or empty), limit prefix, parked prefix, id prefix, log prefix, deaths
--       after which a job runs alone, unique prefix, five of the clock of limits, then the outcomes as _settle has them;
--       their kinds: complete, failed, unknown, aborted: number is a TTL in seconds (0: none, -1: delete at once); retry,
--       snooze: number is the delay in ms; return: back to the head of its lane, or of the suspects
-- Returns {stale ids, whose lease is another's or gone; ids that an abort took while they ran and that still hold their
--          lease: settle them as aborted; what claim answers, an error, or nothing where nothing was claimed}
--@include _time
--@include _lane
--@include _trim
local FIRST_OUTCOME = 18
-- One table instead of a local for each: a function that reads many locals of the script is made slowly, and all are
-- made anew each time the script runs. For the same reason what is rarely needed stands inside of functions.
local k = {
  queued = KEYS[1], incomplete = KEYS[2], leases = KEYS[3], priority = KEYS[4], priorities = KEYS[5], counters = KEYS[6],
  completed = KEYS[7], failed = KEYS[8], cancelled = KEYS[9], unknown = KEYS[10], active = KEYS[11], crashes = KEYS[12],
  begun = KEYS[13], minutes = KEYS[14], suspects = KEYS[15], starts = KEYS[16], buckets = KEYS[17], override = KEYS[18],
  blocked = KEYS[19], paused = KEYS[20], parked = KEYS[21], unique_for = KEYS[22],
  limit_prefix = ARGV[7], parked_prefix = ARGV[8], id_prefix = ARGV[9], log_prefix = ARGV[10], unique_prefix = ARGV[12],
  prefix_length = #ARGV[9], alone_after = tonumber(ARGV[11]), now = now_ms(), clock = 0, told = 13,
}
--@include _settle
--@include _claim
local stale, taken = {}, {}
if #ARGV >= FIRST_OUTCOME then settle(FIRST_OUTCOME, stale, taken) end
local slots = tonumber(ARGV[1])
if slots < 0 then return { stale, taken } end
-- An error of the claim must not hide that the outcomes are written.
local done, claimed = pcall(claim, ARGV[2], slots, ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6])
if not done then claimed = redis.error_reply(type(claimed) == 'table' and claimed.err or tostring(claimed)) end
return { stale, taken, claimed }
