#!lua flags=allow-oom
-- One trip of a worker: writes the outcomes of jobs of one queue, then leases waiting jobs.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, active,
--       crashes, begun, minutes, suspects, starts, buckets, override, blocked, paused, parked
-- ARGV  slots (-1: no claim, 0: promote only), lease token, alone (1: one suspect and nothing else), rate count (0: no
--       limit), rate period (ms), keyed limits (JSON, or empty), limit prefix, parked prefix, id prefix, log prefix, deaths
--       after which a job runs alone, then the outcomes as _settle has them; their kinds: complete, failed, unknown,
--       aborted: number is a TTL in seconds (0: none, -1: delete at once); retry, snooze: number is the delay in ms;
--       return: back to the head of its lane, or of the suspects
-- Returns {stale ids, whose lease is another's or gone; ids that an abort took while they ran and that still hold their
--          lease: settle them as aborted; what claim answers, an error, or nothing where nothing was claimed}
--@include _time
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local completed, failed, cancelled, unknown, active = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local crashes, begun, minutes, suspects = KEYS[12], KEYS[13], KEYS[14], KEYS[15]
local starts, buckets, override, blocked, paused, parked = KEYS[16], KEYS[17], KEYS[18], KEYS[19], KEYS[20], KEYS[21]
local limit_prefix, parked_prefix, id_prefix, log_prefix = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local alone_after = tonumber(ARGV[11])
local FIRST_OUTCOME = 12
local now = now_ms()
local now_text = string.format('%.0f', now)
--@include _lane
--@include _trim
--@include _settle
--@include _claim_rate
--@include _claim_limits
--@include _claim
if #ARGV >= FIRST_OUTCOME then settle(FIRST_OUTCOME) end
local slots = tonumber(ARGV[1])
if slots < 0 then return { stale, taken } end
-- An error of the claim must not hide that the outcomes are written.
local done, claimed = pcall(claim, ARGV[2], slots, ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6])
if not done then claimed = redis.error_reply(type(claimed) == 'table' and claimed.err or tostring(claimed)) end
return { stale, taken, claimed }
