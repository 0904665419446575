-- Included: promotes what is due, then leases as many waiting jobs as may start now. `k` is that of _trip; `c` is what one
-- claim knows and has done so far.
--@include _promote
--@include _limit_clock
--@include _rolling_rate
--@include _keyed_limits

-- Sets the clock of limits. Returns why nothing may start by it, if so.
local function look_at_clock(k, c)
  local doubt
  local counted = redis.call('HMGET', k.counters, 'correction', 'corrected_at', 'limited_at', 'blocked_under')
  c.blocked_under = tonumber(counted[4] or 0)
  local correction, corrected_at, last = tonumber(counted[1] or 0), counted[2] and tonumber(counted[2]), tonumber(counted[3] or 0)
  k.clock, c.correction, doubt = limit_clock(k.counters, k.now, correction, corrected_at, last, c.told)
  return doubt
end

-- Looks at what may hold the queue before anything is leased, also so that a structure of the wrong type fails the
-- whole claim. Returns the reason and the ms to wait where nothing may start.
local function held_back(k, c, limited)
  local counted = redis.call('HMGET', k.counters, 'turn', 'started', 'blocked_until')
  c.picked, c.started_before = tonumber(counted[1] or 0), tonumber(counted[2] or 0)
  local blocked_until, kept_until = 0, tonumber(counted[3])
  if redis.call('EXISTS', k.paused, k.blocked, k.parked, k.crashes, k.suspects, k.priority, k.override) > 0 then
    c.by_hand = redis.call('HMGET', k.override, 'count', 'period_ms')
    c.isolated_waiting = redis.call('LLEN', k.suspects)
    c.any_crashed, c.any_parked = redis.call('EXISTS', k.crashes) == 1, redis.call('ZCARD', k.parked) > 0
    c.any_ranked = redis.call('ZCARD', k.priority) > 0
    if redis.call('EXISTS', k.paused) == 1 then return 'paused', redis.call('PTTL', k.paused) end
    blocked_until = tonumber(redis.call('GET', k.blocked) or 0)
  end
  c.limited = limited or c.by_hand[1] or c.any_parked
  if not (c.limited or kept_until or blocked_until > 0) then return end
  local doubt = look_at_clock(k, c)
  if doubt then return doubt, 0 end
  -- Where the clock was set since, the string may have expired before its time.
  if kept_until and c.blocked_under ~= c.correction then blocked_until = math.max(blocked_until, kept_until) end
  if blocked_until > k.clock then return 'blocked', blocked_until - k.clock end
  if kept_until then redis.call('HDEL', k.counters, 'blocked_until', 'blocked_under') end
end

-- The ids at the heads of the two lanes, in the order in which they start, and what takes the first n of them away.
local function from_both_lanes(k, c, normal, first, want)
  local NORMAL_SHARE = 10
  local merged, i, j, is_first = {}, 1, 1, {}
  while #merged < want and (first[i] or normal[j]) do
    c.picked = c.picked + 1
    if first[i] and not (c.picked % NORMAL_SHARE == 0 and normal[j]) then
      merged[#merged + 1], is_first[#merged + 1], i = first[i], true, i + 1
    else
      merged[#merged + 1], is_first[#merged + 1], j = normal[j], false, j + 1
    end
  end
  local ids, normals = {}, 0
  for m = 1, #merged do
    if is_first[m] then ids[#ids + 1] = merged[m] else normals = normals + 1 end
  end
  return merged, function()
    redis.call('HSET', k.counters, 'turn', string.format('%.0f', c.picked % NORMAL_SHARE))
    if #ids > 0 then redis.call('ZREM', k.priority, unpack(ids)) end
    if normals > 0 then redis.call('LTRIM', k.queued, normals, -1) end
  end
end

-- Takes what is not a job of this queue, or has no JSON, out of its structures.
local function forget(k, id)
  redis.call('ZREM', k.incomplete, id)
  redis.call('HINCRBY', k.counters, 'missing', 1)
  redis.call('HDEL', k.priorities, id)
  redis.call('HDEL', k.crashes, id)
  if string.sub(id, 1, k.prefix_length) == k.id_prefix then
    redis.call('UNLINK', k.log_prefix .. string.sub(id, k.prefix_length + 1))
  end
end

-- They are live now: nothing is kept of earlier runs under their keys.
local function leave_indexes(k, ids)
  redis.call('ZREM', k.completed, unpack(ids))
  if redis.call('EXISTS', k.failed, k.cancelled) > 0 then
    redis.call('ZREM', k.failed, unpack(ids))
    redis.call('ZREM', k.cancelled, unpack(ids))
    redis.call('SREM', k.unknown, unpack(ids))
  end
end

-- Leases the jobs among `ids` that are whole and free; `own` is the limit key they were parked under.
local function lease_jobs(k, c, ids, own)
  if #ids == 0 then return end
  local leased = redis.call('HMGET', k.leases, unpack(ids))
  local scores = redis.call('ZMSCORE', k.incomplete, unpack(ids))
  local docs = redis.call('MGET', unpack(ids))
  local granted, lease, n, seen, jobs = {}, {}, 0, {}, c.jobs
  for i, id in ipairs(ids) do
    local score = tonumber(scores[i])
    if leased[i] or seen[id] or (score and score * 1000 > k.now) then
      seen[id] = true -- a stale entry: the job runs, or was put off again
    elseif not score then
      c.aborted_ids[#c.aborted_ids + 1] = id
    elseif not docs[i] or string.sub(id, 1, k.prefix_length) ~= k.id_prefix then
      forget(k, id)
    else
      seen[id] = true
      local crashes = c.any_crashed and redis.call('HGET', k.crashes, id)
      if crashes and not c.isolated and (tonumber(crashes) or 0) >= k.isolate_after then
        redis.call('RPUSH', k.suspects, id) -- it runs in isolation, however it came to wait again
        c.isolated_waiting, c.crash_looping = c.isolated_waiting + 1, c.crash_looping + 1
      elseif c.limits and c.limits.park_or_spend(id, docs[i], own) then
        c.any_parked = true
      else
        if score > 0 then redis.call('ZADD', k.incomplete, 0, id) end
        if crashes then
          c.crash_counts[#c.crash_counts + 1] = id
          c.crash_counts[#c.crash_counts + 1] = crashes
        end
        lease[n * 2 + 1], lease[n * 2 + 2] = id, c.token
        n = n + 1
        granted[n] = id
        jobs[#jobs + 1] = id
        jobs[#jobs + 1] = docs[i]
      end
    end
  end
  if n > 0 then
    leave_indexes(k, granted)
    redis.call('HSET', k.leases, unpack(lease))
    c.started = c.started + n
  end
end

-- Takes from the head of the lanes, or the first job that has to run in isolation; returns how many ids were looked at.
-- Exactly those are taken away, after they were leased.
local function lease_first(k, c, want)
  if c.isolated then
    local ids = redis.call('LRANGE', k.suspects, 0, 0)
    lease_jobs(k, c, ids)
    if #ids > 0 then redis.call('LTRIM', k.suspects, #ids, -1) end
    return #ids
  end
  local ids, remove = redis.call('LRANGE', k.queued, 0, want - 1), nil
  local first = c.any_ranked and redis.call('ZRANGE', k.priority, 0, want - 1) or {}
  if #first > 0 then ids, remove = from_both_lanes(k, c, ids, first, want) end
  lease_jobs(k, c, ids)
  if remove then
    remove()
  elseif #ids > 0 then
    redis.call('LTRIM', k.queued, #ids, -1)
  end
  return #ids
end

local function lease_in_rounds(k, c)
  local ROUNDS = 64
  for _ = 1, ROUNDS do
    if c.started >= c.allowed or c.drained then return end
    local unparked = 0
    if not c.isolated and c.any_parked then
      unparked = unpark(k, c.limits, c.allowed - c.started, function(id, name) lease_jobs(k, c, { id }, name) end)
    end
    local want, looked = c.allowed - c.started, 0
    if want > 0 and unparked == 0 then looked = lease_first(k, c, want) end
    c.drained = unparked == 0 and looked == 0
  end
end

-- Puts jobs that wait and stand in no lane, because somebody deleted or overwrote it, into one again. They show
-- only when nothing else waits; what a SAQ worker shows as its own is left to it.
local function return_orphans(k, c)
  local ORPHANS, RUNNING_MAX = 200, 2000
  local leased = redis.call('HLEN', k.leases)
  if c.isolated_waiting > 0 or c.any_parked or redis.call('ZCOUNT', k.incomplete, 0, 0) <= leased then return end
  local ids = redis.call('ZRANGEBYSCORE', k.incomplete, 0, 0, 'LIMIT', 0, ORPHANS + math.min(leased, RUNNING_MAX))
  local held, external = redis.call('HMGET', k.leases, unpack(ids)), {}
  for _, id in ipairs(redis.call('LRANGE', k.active, 0, ORPHANS)) do external[id] = true end
  for i, id in ipairs(ids) do
    if not held[i] and not external[id] then
      to_lane(id, k.queued, k.priority, k.priorities, k.counters, false)
      c.drained = false
    end
  end
end

-- From `first` stand in ARGV: slots, lease token, isolated (1: one job that crashed its daemons and nothing else), rate
-- count (0: no limit), rate period (ms), keyed limits (JSON, or empty), limit prefix, parked prefix, five of the clock of
-- limits. Returns {reason, wait (ms until a start may be possible; -1: none known), due (ms until the next delayed job;
-- -1: none), how many jobs that crashed their daemons could start, jobs {id, JSON, …}, aborted ids: those that an abort
-- took out of incomplete, crash counts {id, count, …} of those jobs whose daemon died with them, clock of limits (ms; 0:
-- nothing is limited), its correction}. The reason is ok (all slots filled), empty, paused, limited, blocked, or what
-- limit_clock says.
local function claim(k, first)
  local slots, isolated = tonumber(ARGV[first]), ARGV[first + 2] == '1'
  local count, period, limits = tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4]), ARGV[first + 5]
  k.limit_prefix, k.parked_prefix = ARGV[first + 6], ARGV[first + 7]
  local c = { token = ARGV[first + 1], isolated = isolated, told = first + 8, allowed = slots, started = 0, drained = false,
    isolated_waiting = 0, picked = 0, correction = 0, crash_looping = 0, jobs = {}, aborted_ids = {}, crash_counts = {},
    by_hand = {} }
  local due = next_due(k.incomplete, k.now)
  if due and due <= 0 then
    promote(k)
    due = next_due(k.incomplete, k.now)
  end
  local function answer(reason, wait)
    return { reason, wait, due and math.max(0, due) or -1, c.crash_looping, c.jobs, c.aborted_ids, c.crash_counts, k.clock,
      c.correction }
  end

  local reason, hold = held_back(k, c, count > 0 or limits ~= '')
  -- While nothing may start no crash loop is told of: its daemon would hold all its queues back for it.
  if reason then return answer(reason, hold) end
  if c.by_hand[1] then count, period = tonumber(c.by_hand[1]), tonumber(c.by_hand[2]) end
  -- Of a limit one start is left for a job in isolation, which would else never get one while others wait.
  local reserved = c.isolated_waiting > 0 and not isolated and 1 or 0
  local rate = count > 0 and rolling_rate(k.starts, k.buckets, count, period, k.clock)
  if rate then
    local allowance, free_at = rate.allowance(slots + reserved)
    if allowance > 0 then c.crash_looping = c.isolated_waiting end
    c.allowed = math.min(slots, allowance - reserved)
    if c.allowed <= 0 then return answer('limited', math.max(1, free_at - k.clock)) end
  end
  c.crash_looping = c.isolated_waiting
  if isolated then c.allowed = 1 end
  if limits ~= '' then c.limits = keyed_limits(k, cjson.decode(limits)) end
  lease_in_rounds(k, c)
  if c.drained and c.started == 0 and not isolated then return_orphans(k, c) end

  if c.started > 0 then
    if rate then rate.spend(c.started) end
    local started, last_start = string.format('%.0f', c.started_before + c.started), string.format('%.0f', k.now)
    redis.call('HSET', k.counters, 'started', started, 'last_start', last_start)
    if c.limited then redis.call('HSET', k.counters, 'limited_at', string.format('%.0f', k.clock)) end
  end
  local wait = c.any_parked and parked_wait(k) or -1
  if c.started < c.allowed then return answer(c.drained and 'empty' or 'ok', c.drained and wait or 0) end
  if c.allowed < slots and not isolated then
    local _, again = rate.allowance(1 + reserved)
    return answer('limited', math.max(1, again - k.clock))
  end
  return answer('ok', wait)
end
