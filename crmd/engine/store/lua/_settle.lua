-- Included: writes the acks of many jobs. What the lease does not cover changes nothing. `k` is that of _trip.
--@include _lane
--@include _trim

-- Jobs that completed and of which there is nothing more to say: the many. From `first` stand id and JSON of each.
local function complete(k, token, first, last, ended, stale)
  local ids, documents, members, n = {}, {}, ended.indexed[k.completed] or {}, 0
  for a = first, last, 2 do ids[#ids + 1] = ARGV[a] end
  local held, over, now_text = redis.call('HMGET', k.leases, unpack(ids)), ended.over, string.format('%.0f', k.now)
  for i, id in ipairs(ids) do
    if held[i] == token then
      documents[n + 1], documents[n + 2] = id, ARGV[first + i * 2 - 1]
      n = n + 2
      over[#over + 1] = id
      members[#members + 1] = now_text
      members[#members + 1] = id
    else
      stale[#stale + 1] = id
    end
  end
  if n == 0 then return end
  redis.call('MSET', unpack(documents))
  for i = 1, n, 2 do redis.call('PUBLISH', documents[i], 'complete') end
  ended.indexed[k.completed] = members
  ended.counts.completed = (ended.counts.completed or 0) + n / 2
end

-- All other acks; from `first` stand for each: id, token, kind, JSON, number, timeline entry, marked. Kinds are complete,
-- failed, unknown, aborted: number is a TTL in seconds (0: none, -1: delete at once); retry, snooze: number is the delay
-- in ms; return: back to the head of its lane, or of those that run in isolation.
local function settle_others(k, first, ended, stale, aborted)
  local WIDTH, LOG_ENTRIES = 7, 50
  local STATUS = { complete = 'complete', failed = 'failed', unknown = 'failed', aborted = 'aborted' }
  local INDEX = { complete = k.completed, failed = k.failed, unknown = k.failed, aborted = k.cancelled }
  local COUNTER = { complete = 'completed', failed = 'failed', unknown = 'failed', aborted = 'cancelled', retry = 'retried' }

  local function count(name) ended.counts[name] = (ended.counts[name] or 0) + 1 end

  local function log_of(id) return k.log_prefix .. string.sub(id, k.prefix_length + 1) end

  local function finish(id, kind, json, ttl)
    count(COUNTER[kind])
    if kind == 'unknown' then count('unknown') end
    ended.over[#ended.over + 1] = id
    if kind ~= 'complete' then ended.kinds[id] = kind end
    if ttl < 0 then
      ended.deleted[#ended.deleted + 1] = id
      redis.call('UNLINK', id, log_of(id))
    else
      if json ~= '' then
        if ttl > 0 then redis.call('SET', id, json, 'EX', ttl) else redis.call('SET', id, json) end
      end
      local members = ended.indexed[INDEX[kind]] or {}
      ended.indexed[INDEX[kind]] = members
      members[#members + 1] = string.format('%.0f', k.now)
      members[#members + 1] = id
      if kind == 'unknown' then redis.call('SADD', k.unknown, id) end
    end
    redis.call('PUBLISH', id, STATUS[kind])
  end

  local function put_back(id, kind, json, delay)
    if json ~= '' then redis.call('SET', id, json) end
    if COUNTER[kind] then count(COUNTER[kind]) end
    if delay > 0 then
      redis.call('ZADD', k.incomplete, string.format('%.3f', (k.now + delay) / 1000), id)
    elseif kind == 'return' and tonumber(redis.call('HGET', k.crashes, id) or 0) >= k.isolate_after then
      redis.call('LPUSH', k.suspects, id)
    else
      to_lane(id, k.queued, k.priority, k.priorities, k.counters, kind == 'return')
    end
    redis.call('HDEL', k.begun, id)
    redis.call('HDEL', k.leases, id)
    redis.call('PUBLISH', id, 'queued')
  end

  -- The key was enqueued again while its aborted run still held the lease: the new job stands, and may have
  -- been passed over by a claim meanwhile.
  local function release(id, score)
    if score == 0 then to_lane(id, k.queued, k.priority, k.priorities, k.counters, false) end
    redis.call('HDEL', k.crashes, id)
    redis.call('HDEL', k.begun, id)
    redis.call('HDEL', k.leases, id)
  end

  local ids, returned = {}, {}
  for a = first, #ARGV, WIDTH do ids[#ids + 1] = ARGV[a] end
  local held, scores = redis.call('HMGET', k.leases, unpack(ids)), redis.call('ZMSCORE', k.incomplete, unpack(ids))
  for i, id in ipairs(ids) do
    local a = first + (i - 1) * WIDTH
    local token, kind, json, number, entry = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4]), ARGV[a + 5]
    if held[i] ~= token then
      stale[#stale + 1] = id
    elseif not STATUS[kind] and not scores[i] then
      aborted[#aborted + 1] = id
    else
      if ARGV[a + 6] == '1' then redis.call('LREM', k.active, 1, id) end
      if entry ~= '' then
        redis.call('RPUSH', log_of(id), entry)
        redis.call('LTRIM', log_of(id), -LOG_ENTRIES, -1)
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
    local a = first + (returned[r] - 1) * WIDTH
    put_back(ids[returned[r]], 'return', ARGV[a + 3], tonumber(ARGV[a + 4]))
  end
end

-- A job that completed or became unknown holds its key for its unique_for from now on; one that failed or was cancelled
-- gives it back. What the job had stands as long as its JSON, for when it is queued again by hand.
local function hold_keys(k, ended)
  local HELD, spans = { complete = 'completed', unknown = 'unknown' }, redis.call('HMGET', k.unique_for, unpack(ended.over))
  for i, id in ipairs(ended.over) do
    if spans[i] then
      local name, state = k.unique_prefix .. string.sub(id, k.prefix_length + 1), HELD[ended.kinds[id] or 'complete']
      if state then redis.call('SET', name, state, 'PX', spans[i]) else redis.call('UNLINK', name) end
    end
  end
  if #ended.deleted > 0 then redis.call('HDEL', k.unique_for, unpack(ended.deleted)) end
end

-- Moves the jobs that are over from the indexes of the live ones to their own. The lease goes last: where a structure
-- before it is of the wrong type, the acks can be written again.
local function update_indexes(k, ended)
  local over, MINUTES_KEPT = ended.over, 20
  for index, members in pairs(ended.indexed) do redis.call('ZADD', index, unpack(members)) end
  if redis.call('EXISTS', k.priorities, k.crashes, k.begun, k.unique_for) > 0 then
    redis.call('HDEL', k.priorities, unpack(over))
    redis.call('HDEL', k.crashes, unpack(over))
    redis.call('HDEL', k.begun, unpack(over))
    hold_keys(k, ended)
  end
  redis.call('ZREM', k.incomplete, unpack(over))
  redis.call('HDEL', k.leases, unpack(over))
  local minute = string.format('%.0f', math.floor(k.now / 60000))
  if redis.call('HINCRBY', k.minutes, minute, #over) == #over then
    for _, old in ipairs(redis.call('HKEYS', k.minutes)) do
      if tonumber(old) <= tonumber(minute) - MINUTES_KEPT then redis.call('HDEL', k.minutes, old) end
    end
  end
end

-- Deletes what is over the counts. Where finished jobs may stay a while anyway not on every trip, but with every so
-- many jobs: the once-a-second look deletes what is left.
local function trim_indexes(k, ended, first)
  local EVERY = 64
  local keep_min, hard, keep_age = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4])
  for index, members in pairs(ended.indexed) do
    local n = #members / 2
    if keep_min == 0 or n >= EVERY or redis.call('ZCARD', index) % EVERY < n then
      local keep = tonumber(ARGV[index == k.failed and first + 1 or first])
      trim(index, keep, k.now, keep_min, hard, keep_age, n + EVERY + 20, k)
    end
  end
end

-- From `first` stand: keep completed, keep failed, keep_min (ms), hard cap, keep_age (ms; 0: none), number of groups
-- of completed jobs, for each its token and size and then its ids and JSONs; then all other acks. Returns {stale ids,
-- aborted ids}: those of which nothing was written.
local function settle(k, first)
  local stale, aborted = {}, {}
  local ended, a = { over = {}, counts = {}, indexed = {}, kinds = {}, deleted = {} }, first + 6
  for _ = 1, tonumber(ARGV[first + 5]) do
    local last = a + 1 + 2 * tonumber(ARGV[a + 1])
    complete(k, ARGV[a], a + 2, last, ended, stale)
    a = last + 1
  end
  if a <= #ARGV then settle_others(k, a, ended, stale, aborted) end
  if #ended.over > 0 then
    update_indexes(k, ended)
    trim_indexes(k, ended, first)
  end
  for name, n in pairs(ended.counts) do redis.call('HINCRBY', k.counters, name, n) end
  return { stale, aborted }
end
