#!lua flags=no-writes
-- All that is known of some jobs of one queue.
-- KEYS  incomplete, leases, failed, completed, cancelled, unknown, priorities, crashes
-- ARGV  id prefix length, log prefix, with timeline (1) or without, then the ids
-- Returns for each: {JSON (or false), due (s; 0: now; false: not live), lease (or false), place (completed, failed, unknown,
--          cancelled or false), end (ms or false), priority (or false), crash count (or false), timeline entries}
local prefix_length, log_prefix, full = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'

local function timeline(id)
  local log = log_prefix .. string.sub(id, prefix_length + 1)
  return redis.call('TYPE', log).ok == 'list' and redis.call('LRANGE', log, 0, -1) or {}
end

local answers = {}
for a = 4, #ARGV do
  local id = ARGV[a]
  local place, ended = false, false
  for name, index in pairs({ failed = KEYS[3], completed = KEYS[4], cancelled = KEYS[5] }) do
    local score = redis.call('ZSCORE', index, id)
    if score then place, ended = name, score end
  end
  if place == 'failed' and redis.call('SISMEMBER', KEYS[6], id) == 1 then place = 'unknown' end
  -- MGET: what is no string is no job.
  answers[#answers + 1] = { redis.call('MGET', id)[1], redis.call('ZSCORE', KEYS[1], id),
    redis.call('HGET', KEYS[2], id), place, ended,
    redis.call('HGET', KEYS[7], id), redis.call('HGET', KEYS[8], id),
    full and timeline(id) or {} }
end
return answers
