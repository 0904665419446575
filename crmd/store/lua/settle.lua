#!lua flags=allow-oom
-- Writes the outcomes of many jobs of one queue. What the lease does not cover changes nothing.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown,
--       active, crashes, begun, minutes, suspects
-- ARGV  id prefix length, log prefix, keep completed, keep failed, keep_min (ms), hard cap, keep_age (ms; 0: none),
--       deaths after which a job runs alone, then for each outcome: id, lease token, kind, JSON (empty: as stored),
--       number, timeline entry (or empty), marked active (0 or 1)
--       kind: complete, failed, unknown, aborted: number is a TTL in seconds (0: none, -1: delete at once);
--             retry, snooze: number is the delay in ms; return: back to the head of its lane, or of the suspects
-- Returns {stale ids, whose lease is another's or gone; ids that an abort took while they ran and that still
--          hold their lease: settle them as aborted}
--@include _time
--@include _lane
--@include _trim
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local unknown, active = KEYS[10], KEYS[11]
local prefix_length, log_prefix, alone_after = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[8])
local FIRST, WIDTH, LOG_ENTRIES, MINUTES_KEPT = 9, 7, 50, 20
local STATUS = { complete = 'complete', failed = 'failed', unknown = 'failed', aborted = 'aborted' }
local INDEX = { complete = KEYS[7], failed = KEYS[8], unknown = KEYS[8], aborted = KEYS[9] }
local COUNTER = { complete = 'completed', failed = 'failed', unknown = 'failed', aborted = 'cancelled', retry = 'retried' }
local now = now_ms()

local ids = {}
for a = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[a] end
local held = redis.call('HMGET', leases, unpack(ids))
local scores = redis.call('ZMSCORE', incomplete, unpack(ids))

local stale, taken, over, counts, indexed = {}, {}, {}, {}, {}

local function count(name) counts[name] = (counts[name] or 0) + 1 end

local function finish(id, kind, json, ttl)
  count(COUNTER[kind])
  if kind == 'unknown' then count('unknown') end
  over[#over + 1] = id
  if ttl < 0 then
    redis.call('UNLINK', id, log_prefix .. string.sub(id, prefix_length + 1))
  else
    if json ~= '' then
      if ttl > 0 then redis.call('SET', id, json, 'EX', ttl) else redis.call('SET', id, json) end
    end
    local index = indexed[INDEX[kind]] or {}
    indexed[INDEX[kind]] = index
    index[#index + 1] = string.format('%.0f', now)
    index[#index + 1] = id
    if kind == 'unknown' then redis.call('SADD', unknown, id) end
  end
  redis.call('PUBLISH', id, STATUS[kind])
end

local function put_back(id, kind, json, delay)
  if json ~= '' then redis.call('SET', id, json) end
  if COUNTER[kind] then count(COUNTER[kind]) end
  if delay > 0 then
    redis.call('ZADD', incomplete, string.format('%.3f', (now + delay) / 1000), id)
  elseif kind == 'return' and tonumber(redis.call('HGET', KEYS[12], id) or 0) >= alone_after then
    redis.call('LPUSH', KEYS[15], id)
  else
    to_lane(id, queued, priority, priorities, counters, kind == 'return')
  end
  redis.call('HDEL', KEYS[13], id)
  redis.call('HDEL', leases, id)
  redis.call('PUBLISH', id, 'queued')
end

-- The key was enqueued again while its aborted run still held the lease: the new job stands, and may have
-- been passed over by a claim meanwhile.
local function release(id, score)
  if score == 0 then to_lane(id, queued, priority, priorities, counters, false) end
  redis.call('HDEL', KEYS[12], id)
  redis.call('HDEL', KEYS[13], id)
  redis.call('HDEL', leases, id)
end

local returned = {}

for i, id in ipairs(ids) do
  local a = FIRST + (i - 1) * WIDTH
  local token, kind, json, number = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
  local entry, marked = ARGV[a + 5], ARGV[a + 6] == '1'
  if held[i] ~= token then
    stale[#stale + 1] = id
  elseif not STATUS[kind] and not scores[i] then
    taken[#taken + 1] = id
  else
    if marked then redis.call('LREM', active, 1, id) end
    if entry ~= '' then
      local log = log_prefix .. string.sub(id, prefix_length + 1)
      redis.call('RPUSH', log, entry)
      redis.call('LTRIM', log, -LOG_ENTRIES, -1)
    end
    if kind == 'aborted' and scores[i] then
      release(id, tonumber(scores[i]))
    elseif STATUS[kind] then
      finish(id, kind, json, number)
    elseif kind == 'return' then
      returned[#returned + 1] = i
    else
      put_back(id, kind, json, number)
    end
  end
end
-- The last goes to the head first, so that they stand there in their order.
for r = #returned, 1, -1 do
  local a = FIRST + (returned[r] - 1) * WIDTH
  put_back(ids[returned[r]], 'return', ARGV[a + 3], tonumber(ARGV[a + 4]))
end

if #over > 0 then
  -- The lease goes last: where a structure before it is of the wrong type, the outcome can be written again.
  for index, members in pairs(indexed) do redis.call('ZADD', index, unpack(members)) end
  redis.call('HDEL', priorities, unpack(over))
  redis.call('HDEL', KEYS[12], unpack(over))
  redis.call('HDEL', KEYS[13], unpack(over))
  redis.call('ZREM', incomplete, unpack(over))
  redis.call('HDEL', leases, unpack(over))
  local minute = string.format('%.0f', math.floor(now / 60000))
  if redis.call('HINCRBY', KEYS[14], minute, #over) == #over then
    for _, old in ipairs(redis.call('HKEYS', KEYS[14])) do
      if tonumber(old) <= tonumber(minute) - MINUTES_KEPT then redis.call('HDEL', KEYS[14], old) end
    end
  end
  local k = { incomplete = incomplete, leases = leases, unknown = unknown, log_prefix = log_prefix,
    prefix_length = prefix_length }
  for index, keep in pairs({ [KEYS[7]] = tonumber(ARGV[3]), [KEYS[8]] = tonumber(ARGV[4]), [KEYS[9]] = tonumber(ARGV[3]) }) do
    trim(index, keep, now, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), #over + 20, k)
  end
end
for name, n in pairs(counts) do redis.call('HINCRBY', counters, name, n) end
return { stale, taken }
