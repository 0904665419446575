#!lua
-- Adds jobs to one queue, each unless its key is taken: waiting, delayed, active, or held by unique_for.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, crashes
-- ARGV  wake channel, queue name, id prefix length, log prefix, unique prefix, then for each job:
--       id, JSON, delay (ms from now; -1: none), due (epoch ms; -1: none), priority (0: none), unique_for (ms; 0: none)
-- Returns for each job: 1 created, 0 the key was taken
--@include _time
--@include _lane
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local channel, queue, prefix_length, log_prefix, unique_prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local FIRST, WIDTH = 6, 6
local now = now_ms()

local ids, unique_keys = {}, {}
for a = FIRST, #ARGV, WIDTH do
  ids[#ids + 1] = ARGV[a]
  unique_keys[#unique_keys + 1] = unique_prefix .. string.sub(ARGV[a], prefix_length + 1)
end
local scores = redis.call('ZMSCORE', incomplete, unpack(ids))
local leased = redis.call('HMGET', leases, unpack(ids))
local held = redis.call('MGET', unpack(unique_keys))

local created, fresh, seen, waiting, ranked, zadd, docs = {}, {}, {}, {}, {}, {}, {}
local ranks, uniques, soonest = {}, {}, nil
for i, id in ipairs(ids) do
  local a = FIRST + (i - 1) * WIDTH
  local delay, due, rank = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4]
  if scores[i] or leased[i] or held[i] or seen[id] then
    created[i] = 0
  else
    created[i], seen[id] = 1, true
    fresh[#fresh + 1] = id
    docs[#docs + 1] = id
    docs[#docs + 1] = ARGV[a + 1]
    if rank ~= '0' then ranks[id] = rank end
    if ARGV[a + 5] ~= '0' then uniques[unique_keys[i]] = ARGV[a + 5] end
    if delay >= 0 then due = now + delay end
    if due > now then
      zadd[#zadd + 1] = string.format('%.3f', due / 1000)
      soonest = math.min(soonest or due, due)
    else
      zadd[#zadd + 1] = '0'
      local lane = rank ~= '0' and ranked or waiting
      lane[#lane + 1] = id
    end
    zadd[#zadd + 1] = id
  end
end
if #fresh == 0 then return created end

-- A key enqueued again while its old run is kept begins anew.
local old = redis.call('ZREM', KEYS[7], unpack(fresh)) + redis.call('ZREM', KEYS[8], unpack(fresh))
  + redis.call('ZREM', KEYS[9], unpack(fresh)) + redis.call('EXISTS', unpack(fresh))
if old > 0 then
  redis.call('SREM', KEYS[10], unpack(fresh))
  redis.call('HDEL', priorities, unpack(fresh))
  redis.call('HDEL', KEYS[11], unpack(fresh))
  for _, id in ipairs(fresh) do redis.call('UNLINK', log_prefix .. string.sub(id, prefix_length + 1)) end
end
for id, rank in pairs(ranks) do redis.call('HSET', priorities, id, rank) end
-- Into a lane first: where that is of the wrong type, no job is stored that nobody would find.
for _, id in ipairs(ranked) do to_lane(id, queued, priority, priorities, counters, false) end
if #waiting > 0 then redis.call('RPUSH', queued, unpack(waiting)) end
redis.call('MSET', unpack(docs))
redis.call('ZADD', incomplete, unpack(zadd))
for name, ms in pairs(uniques) do redis.call('SET', name, '1', 'PX', ms) end
local wake = #ranked > 0
if soonest then
  local first = redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  wake = wake or tonumber(first[2]) * 1000 >= soonest - 1
end
if wake then redis.call('PUBLISH', channel, queue) end
return created
