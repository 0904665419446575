#!lua
-- Claims a due time of a schedule and adds its job, in one step: no death of a daemon comes between the two.
-- KEYS  schedule, queued, incomplete, leases
-- ARGV  position that the daemon saw (ms), due time (ms), queue, job's key, job's id, its JSON (empty: the time is
--       passed over), name of the unique key, how long that is taken (ms)
-- Returns {what: claimed, passed_over, taken (there is such a job), early, other (another daemon was first, or the
--          schedule is paused), now (ms)}
--@include _time
local schedule, queued, incomplete, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local seen, due, queue, key, id, document, unique = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = now_ms()
local known = redis.call('HMGET', schedule, 'position', 'paused_at')
if known[1] ~= seen or known[2] then return { 'other', now } end
if due > now then return { 'early', now } end

local what = 'claimed'
if document == '' then
  what = 'passed_over'
elseif redis.call('ZSCORE', incomplete, id) or redis.call('HEXISTS', leases, id) == 1
  or redis.call('EXISTS', id, unique) > 0 then
  what = 'taken'
else
  -- Into the lane first: where that is of the wrong type, no job is stored that nobody would find.
  redis.call('RPUSH', queued, id)
  redis.call('SET', id, document)
  redis.call('ZADD', incomplete, 0, id)
  redis.call('SET', unique, '1', 'PX', ARGV[8])
end
redis.call('HSET', schedule, 'position', ARGV[2])
if what ~= 'passed_over' then
  redis.call('HSET', schedule, 'due', ARGV[2], 'ran_at', string.format('%.0f', now), 'queue', queue, 'key', key)
end
return { what, now }
