-- Included: promotes what is due, then leases as many waiting jobs as may start now.
local PROMOTE_BATCH, ROUNDS, NORMAL_SHARE = 200, 64, 10
local STRAYS, RUNNING_MAX = 200, 2000

-- Set by `claim`, for the functions below.
local token, allowed, limits, rank_turn
local jobs, deaths, ghosts, started, drained = {}, {}, {}, 0, false
-- What most queues have none of is looked at once, and skipped.
local any_crashed, any_parked, any_ranked = false, false, false
-- How many suspects there are; and how many to tell of, as they could start.
local could_start, suspected = 0, 0

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

-- In how many ms the next delayed job is due; -1: there is none.
local function next_due()
  local first = redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #first == 0 then return -1 end
  return math.max(0, math.ceil(tonumber(first[2]) * 1000 - now))
end

-- Where a candidate comes from, so that exactly those looked at are taken away.
local function from_suspects()
  return redis.call('LRANGE', suspects, 0, 0), function(n) redis.call('LTRIM', suspects, n, -1) end
end

local function from_lanes(want)
  local normal = redis.call('LRANGE', queued, 0, want - 1)
  local first = any_ranked and redis.call('ZRANGE', priority, 0, want - 1) or {}
  if #first == 0 then
    return normal, function(n) redis.call('LTRIM', queued, n, -1) end
  end
  local merged, i, j, is_first = {}, 1, 1, {}
  while #merged < want and (first[i] or normal[j]) do
    rank_turn = rank_turn + 1
    if first[i] and not (rank_turn % NORMAL_SHARE == 0 and normal[j]) then
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
    redis.call('HSET', counters, 'turn', string.format('%.0f', rank_turn % NORMAL_SHARE))
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
  redis.call('HDEL', crashes, id)
  if string.sub(id, 1, #id_prefix) == id_prefix then
    redis.call('UNLINK', log_prefix .. string.sub(id, #id_prefix + 1))
  end
end

-- What of a job's state one may have kept of an earlier run under its key: it is live now.
local function leave_indexes(ids)
  for _, index in ipairs({ completed, failed, cancelled }) do
    if redis.call('EXISTS', index) == 1 then redis.call('ZREM', index, unpack(ids)) end
  end
  if redis.call('EXISTS', unknown) == 1 then redis.call('SREM', unknown, unpack(ids)) end
end

local function note_deaths(id)
  local count = redis.call('HGET', crashes, id)
  if count then
    deaths[#deaths + 1] = id
    deaths[#deaths + 1] = count
  end
end

-- Leases the jobs among `ids` that are whole and free; `own` is the limit key they were parked under.
local function take(ids, own)
  if #ids == 0 then return end
  local leased = redis.call('HMGET', leases, unpack(ids))
  local scores = redis.call('ZMSCORE', incomplete, unpack(ids))
  local docs = redis.call('MGET', unpack(ids))
  local granted, lease, n, seen = {}, {}, 0, {}
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
        if any_crashed then note_deaths(id) end
        lease[n * 2 + 1], lease[n * 2 + 2] = id, token
        n = n + 1
        granted[n] = id
        jobs[#jobs + 1] = id
        jobs[#jobs + 1] = docs[i]
      end
    end
  end
  if n > 0 then
    leave_indexes(granted)
    redis.call('HSET', leases, unpack(lease))
    started = started + n
  end
end

-- One job from the head of each key that has become free.
local function unpark()
  local names = redis.call('ZRANGEBYSCORE', parked, '-inf', string.format('%.0f', now), 'LIMIT', 0, allowed - started)
  for _, name in ipairs(names) do
    local list, limit = parked_prefix .. name, limit_of(name)
    local id = redis.call('LINDEX', list, 0)
    if id and not (limit and limit_free_at(limit_prefix .. name, limit, now) > now) then
      if any_crashed and tonumber(redis.call('HGET', crashes, id) or 0) >= alone_after then
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

local function take_rounds(alone)
  for _ = 1, ROUNDS do
    if started >= allowed or drained then return end
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
end

-- Puts jobs that wait and stand in no lane, because somebody deleted or overwrote it, into one again. They show
-- only when nothing else waits; what a SAQ worker shows as its own is left to it.
local function return_strays()
  local leased = redis.call('HLEN', leases)
  if could_start > 0 or any_parked or redis.call('ZCOUNT', incomplete, 0, 0) <= leased then return end
  local ids = redis.call('ZRANGEBYSCORE', incomplete, 0, 0, 'LIMIT', 0, STRAYS + math.min(leased, RUNNING_MAX))
  local held, foreign = redis.call('HMGET', leases, unpack(ids)), {}
  for _, id in ipairs(redis.call('LRANGE', active, 0, STRAYS)) do foreign[id] = true end
  for i, id in ipairs(ids) do
    if not held[i] and not foreign[id] then
      to_lane(id, queued, priority, priorities, counters, false)
      drained = false
    end
  end
end

-- Looks at what may hold the queue before anything is leased, also so that a structure of the wrong type fails the
-- whole claim. Returns the reason and the ms to wait where nothing may start.
local function held_back()
  rank_turn = tonumber(redis.call('HGET', counters, 'turn') or 0)
  if redis.call('EXISTS', paused, blocked, parked, crashes, suspects, priority) == 0 then return end
  could_start = redis.call('LLEN', suspects)
  any_crashed, any_parked = redis.call('EXISTS', crashes) == 1, redis.call('ZCARD', parked) > 0
  any_ranked = redis.call('ZCARD', priority) > 0
  if redis.call('EXISTS', paused) == 1 then return 'paused', redis.call('PTTL', paused) end
  local blocked_ms = redis.call('PTTL', blocked)
  if blocked_ms > 0 then return 'blocked', blocked_ms end
end

local function parked_wait()
  local first = any_parked and redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES') or {}
  return #first > 0 and math.max(1, tonumber(first[2]) - now) or -1
end

-- `slots` 0 only promotes; `alone` takes one suspect and nothing else; a `rate_count` of 0 is no limit.
-- Returns {reason, wait (ms until a start may be possible; -1: none known), due (ms until the next delayed job; -1: none),
-- suspects that could start, jobs {id, JSON, …}, ids that an abort took out of incomplete, deaths {id, count, …} of
-- those jobs whose daemon died with them}. The reason is ok (all slots filled), empty, paused, limited or blocked.
local function claim(lease_token, slots, alone, rate_count, rate_period, limits_json)
  local function answer(reason, wait)
    return { reason, wait, next_due(), suspected, jobs, ghosts, deaths }
  end

  token = lease_token
  promote()
  if slots == 0 then return answer('empty', -1) end
  local reason, hold = held_back()
  -- While nothing may start no suspect is told of: its daemon would hold all its queues back for it.
  if reason then return answer(reason, hold) end
  local by_hand = redis.call('HMGET', override, 'count', 'period_ms')
  if by_hand[1] then rate_count, rate_period = tonumber(by_hand[1]), tonumber(by_hand[2]) end
  allowed = slots
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
  limits = limits_json ~= '' and cjson.decode(limits_json) or nil
  take_rounds(alone)
  if drained and started == 0 and not alone then return_strays() end

  if started > 0 then
    if rate_count > 0 then rate_spend(starts, buckets, rate_count, rate_period, now, started) end
    redis.call('HINCRBY', counters, 'started', started)
    redis.call('HSET', counters, 'last_start', now_text)
  end
  local wait = parked_wait()
  if started < allowed then return answer(drained and 'empty' or 'ok', drained and wait or 0) end
  if allowed < slots and not alone then
    local _, again = rate_allowance(starts, buckets, rate_count, rate_period, now, 1 + reserved)
    return answer('limited', math.max(1, again - now))
  end
  return answer('ok', wait)
end
