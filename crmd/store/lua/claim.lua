#!lua flags=allow-oom
-- Promotes what is due, then leases as many waiting jobs as may start now.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, starts, buckets, override, blocked,
--       paused, parked, crashes, suspects, completed, failed, cancelled, unknown, active
-- ARGV  lease token, slots (0: promote only), alone (1: one suspect and nothing else), rate count (0: no limit),
--       rate period (ms), keyed limits (JSON, or empty), limit prefix, parked prefix, id prefix, log prefix,
--       deaths after which a job runs alone
-- Returns {reason, wait (ms until a start may be possible; -1: none known), due (ms until the next delayed job;
--       -1: none), suspects that could start, jobs {id, JSON, crashes, …}, ghosts {id, …} taken out of incomplete by an abort}
--       reason: ok (all slots filled), empty, paused, limited, blocked
--@include _time
--@include _lane
--@include _claim_rate
--@include _claim_limits
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local starts, buckets, parked, suspects = KEYS[7], KEYS[8], KEYS[12], KEYS[14]
local token, slots, alone = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local rate_count, rate_period = tonumber(ARGV[4]), tonumber(ARGV[5])
local limits = ARGV[6] ~= '' and cjson.decode(ARGV[6]) or nil
local limit_prefix, parked_prefix, id_prefix, log_prefix = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local alone_after = tonumber(ARGV[11])
local PROMOTE_BATCH, ROUNDS, NORMAL_SHARE = 200, 64, 10
local STRAYS, RUNNING_MAX = 200, 2000
local now = now_ms()

-- Into a lane first, then to 0: where a lane is of the wrong type, the job stays due.
local function promote()
  local due = redis.call('ZRANGEBYSCORE', incomplete, '(0', string.format('%.3f', now / 1000), 'LIMIT', 0, PROMOTE_BATCH)
  if #due == 0 then return end
  local ranked, plain, zeros = redis.call('EXISTS', priorities) == 1, {}, {}
  for _, id in ipairs(due) do
    if not (ranked and to_priority(id, priority, priorities, counters, false)) then plain[#plain + 1] = id end
    zeros[#zeros + 1] = '0'
    zeros[#zeros + 1] = id
  end
  if #plain > 0 then redis.call('RPUSH', queued, unpack(plain)) end
  redis.call('ZADD', incomplete, unpack(zeros))
end

local function next_due()
  local first = redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #first == 0 then return -1 end
  return math.max(0, math.ceil(tonumber(first[2]) * 1000 - now))
end

local jobs, ghosts, started = {}, {}, 0
local crashed = redis.call('EXISTS', KEYS[13]) == 1
-- Read before anything is leased, like the lanes: a structure of the wrong type has to fail the whole claim.
local suspected, turn = redis.call('LLEN', suspects), tonumber(redis.call('HGET', counters, 'turn') or 0)
local any_parked = redis.call('ZCARD', parked) > 0

local function answer(reason, wait)
  return { reason, wait, next_due(), suspected, jobs, ghosts }
end

promote()
if slots == 0 then return answer('empty', -1) end
-- While nothing may start no suspect is told of: its daemon would hold all its queues back for it.
local could_start = suspected
suspected = 0
if redis.call('EXISTS', KEYS[11]) == 1 then return answer('paused', redis.call('PTTL', KEYS[11])) end
local blocked_ms = redis.call('PTTL', KEYS[10])
if blocked_ms > 0 then return answer('blocked', blocked_ms) end

local override = redis.call('HMGET', KEYS[9], 'count', 'period_ms')
if override[1] then rate_count, rate_period = tonumber(override[1]), tonumber(override[2]) end
local allowed = slots
-- Of a limit one start is left for a suspect, which would else never get one while others wait.
local reserved = could_start > 0 and not alone and 1 or 0
if rate_count > 0 then
  local allowance, free_at = rate_allowance(starts, buckets, rate_count, rate_period, now, slots + reserved)
  if allowance > 0 then suspected = could_start end
  allowed = math.min(slots, allowance - reserved)
  if allowed <= 0 then return answer('limited', math.max(1, free_at - now)) end
end
suspected = could_start
if alone then allowed = 1 end

-- Where a candidate comes from, so that exactly those looked at are taken away.
local function from_suspects()
  return redis.call('LRANGE', suspects, 0, 0), function(n) redis.call('LTRIM', suspects, n, -1) end
end

local function from_lanes(want)
  local first = redis.call('ZRANGE', priority, 0, want - 1)
  local normal = redis.call('LRANGE', queued, 0, want - 1)
  if #first == 0 then
    return normal, function(n) redis.call('LTRIM', queued, n, -1) end
  end
  local merged, i, j, is_first = {}, 1, 1, {}
  while #merged < want and (first[i] or normal[j]) do
    turn = turn + 1
    if first[i] and not (turn % NORMAL_SHARE == 0 and normal[j]) then
      merged[#merged + 1], is_first[#merged + 1], i = first[i], true, i + 1
    else
      merged[#merged + 1], is_first[#merged + 1], j = normal[j], false, j + 1
    end
  end
  return merged, function(n)
    local ids, normals = {}, 0
    for m = 1, n do
      if is_first[m] then ids[#ids + 1] = merged[m] else normals = normals + 1 end
    end
    redis.call('HSET', counters, 'turn', string.format('%.0f', turn % NORMAL_SHARE))
    if #ids > 0 then redis.call('ZREM', priority, unpack(ids)) end
    if normals > 0 then redis.call('LTRIM', queued, normals, -1) end
  end
end

-- Sets a parked key's time anew, or forgets it when nothing is parked behind it.
local function requeue_key(name, limit)
  if redis.call('EXISTS', parked_prefix .. name) == 0 then
    redis.call('ZREM', parked, name)
  else
    local at = limit and limit_free_at(limit_prefix .. name, limit, now) or now
    redis.call('ZADD', parked, string.format('%.0f', at), name)
  end
end

local function limit_of(name)
  for _, limit in ipairs(limits or {}) do
    if string.sub(name, 1, #limit.id + 1) == limit.id .. '=' then return limit end
  end
end

-- Parks the job behind the first of its keys that is not free; nil when all are free.
local function park(id, keys, own)
  for _, key in ipairs(keys) do
    local list = parked_prefix .. key.name
    local behind = redis.call('EXISTS', list) == 1
    if key.name ~= own and (behind or limit_free_at(limit_prefix .. key.name, key.limit, now) > now) then
      redis.call('RPUSH', list, id)
      requeue_key(key.name, key.limit)
      any_parked = true
      return true
    end
  end
  return false
end

-- Takes what is no job of this queue, or has no JSON, out of the books.
local function forget(id)
  redis.call('ZREM', incomplete, id)
  redis.call('HINCRBY', counters, 'missing', 1)
  redis.call('HDEL', priorities, id)
  redis.call('HDEL', KEYS[13], id)
  if string.sub(id, 1, #id_prefix) == id_prefix then
    redis.call('UNLINK', log_prefix .. string.sub(id, #id_prefix + 1))
  end
end

-- Leases the jobs among `ids` that are whole and free; `own` is the limit key they were parked under.
local function take(ids, own)
  if #ids == 0 then return 0 end
  local leased = redis.call('HMGET', leases, unpack(ids))
  local scores = redis.call('ZMSCORE', incomplete, unpack(ids))
  local docs = redis.call('MGET', unpack(ids))
  local granted, seen = {}, {}
  for i, id in ipairs(ids) do
    local score = tonumber(scores[i])
    if leased[i] or seen[id] or (score and score * 1000 > now) then
      seen[id] = true -- a second mention of a job that runs, or that was put off again
    elseif not score then
      ghosts[#ghosts + 1] = id
    elseif not docs[i] or string.sub(id, 1, #id_prefix) ~= id_prefix then
      forget(id)
    else
      seen[id] = true
      local keys = limits and limit_keys(docs[i], limits) or nil
      if not (keys and park(id, keys, own)) then
        for _, key in ipairs(keys or {}) do limit_spend(limit_prefix .. key.name, key.limit, now) end
        if score > 0 then redis.call('ZADD', incomplete, 0, id) end
        granted[#granted + 1] = id
        jobs[#jobs + 1] = id
        jobs[#jobs + 1] = docs[i]
        jobs[#jobs + 1] = crashed and redis.call('HGET', KEYS[13], id) or '0'
      end
    end
  end
  if #granted > 0 then
    local lease = {}
    for _, id in ipairs(granted) do
      lease[#lease + 1] = id
      lease[#lease + 1] = token
    end
    for index = 15, 17 do redis.call('ZREM', KEYS[index], unpack(granted)) end
    redis.call('SREM', KEYS[18], unpack(granted))
    redis.call('HSET', leases, unpack(lease))
    started = started + #granted
  end
  return #granted
end

-- One job from the head of each key that has become free.
local function unpark()
  local names = redis.call('ZRANGEBYSCORE', parked, '-inf', string.format('%.0f', now), 'LIMIT', 0, allowed - started)
  for _, name in ipairs(names) do
    local list, limit = parked_prefix .. name, limit_of(name)
    local id = redis.call('LINDEX', list, 0)
    if id and not (limit and limit_free_at(limit_prefix .. name, limit, now) > now) then
      if crashed and tonumber(redis.call('HGET', KEYS[13], id) or 0) >= alone_after then
        redis.call('RPUSH', suspects, id) -- it was parked when it should have run alone
        suspected = suspected + 1
      else
        take({ id }, name)
      end
      redis.call('LPOP', list)
    end
    requeue_key(name, limit)
  end
  return #names
end

local drained = false
for _ = 1, ROUNDS do
  if started >= allowed or drained then break end
  local unparked = not alone and any_parked and unpark() or 0
  local want = allowed - started
  local looked = 0
  if want > 0 and unparked == 0 then
    local ids, remove
    if alone then ids, remove = from_suspects() else ids, remove = from_lanes(want) end
    take(ids, nil)
    looked = #ids
    if looked > 0 then remove(looked) end
  end
  drained = unparked == 0 and looked == 0
end

-- Puts jobs that wait and stand in no lane, because somebody deleted or overwrote it, into one again. They show
-- only when nothing else waits; what a SAQ worker shows as its own is left to it.
local function return_strays()
  local leased = redis.call('HLEN', leases)
  if could_start > 0 or redis.call('ZCARD', parked) > 0 or redis.call('ZCOUNT', incomplete, 0, 0) <= leased then return end
  local ids = redis.call('ZRANGEBYSCORE', incomplete, 0, 0, 'LIMIT', 0, STRAYS + math.min(leased, RUNNING_MAX))
  local held, foreign = redis.call('HMGET', leases, unpack(ids)), {}
  for _, id in ipairs(redis.call('LRANGE', KEYS[19], 0, STRAYS)) do foreign[id] = true end
  for i, id in ipairs(ids) do
    if not held[i] and not foreign[id] then
      to_lane(id, queued, priority, priorities, counters, false)
      drained = false
    end
  end
end

if drained and started == 0 and not alone then return_strays() end

if started > 0 then
  if rate_count > 0 then rate_spend(starts, buckets, rate_count, rate_period, now, started) end
  redis.call('HINCRBY', counters, 'started', started)
  redis.call('HSET', counters, 'last_start', string.format('%.0f', now))
end

local wait = -1
local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
if #first > 0 then wait = math.max(1, tonumber(first[2]) - now) end
if started < allowed then return answer(drained and 'empty' or 'ok', drained and wait or 0) end
if allowed < slots and not alone then
  local _, again = rate_allowance(starts, buckets, rate_count, rate_period, now, 1 + reserved)
  return answer('limited', math.max(1, again - now))
end
return answer('ok', wait)
