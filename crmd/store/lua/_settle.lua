-- Included: writes the outcomes of many jobs. What the lease does not cover changes nothing.
local LOG_ENTRIES, MINUTES_KEPT = 50, 20
local STATUS = { complete = 'complete', failed = 'failed', unknown = 'failed', aborted = 'aborted' }
local INDEX = { complete = completed, failed = failed, unknown = failed, aborted = cancelled }
local COUNTER = { complete = 'completed', failed = 'failed', unknown = 'failed', aborted = 'cancelled', retry = 'retried' }

local stale, taken, over, counts, indexed = {}, {}, {}, {}, {}

local function count(name, n) counts[name] = (counts[name] or 0) + n end

local function add_log(id, entry)
  local log = log_prefix .. string.sub(id, #id_prefix + 1)
  redis.call('RPUSH', log, entry)
  redis.call('LTRIM', log, -LOG_ENTRIES, -1)
end

local function into_index(id, index)
  local members = indexed[index] or {}
  indexed[index] = members
  members[#members + 1] = now_text
  members[#members + 1] = id
end

-- Jobs that completed and of which there is nothing more to say: the many. From `first` stand id and JSON of each.
local function complete(token, first, last)
  local ids, documents, n = {}, {}, 0
  for a = first, last, 2 do ids[#ids + 1] = ARGV[a] end
  local held = redis.call('HMGET', leases, unpack(ids))
  for i, id in ipairs(ids) do
    if held[i] == token then
      documents[n * 2 + 1], documents[n * 2 + 2] = id, ARGV[first + i * 2 - 1]
      n = n + 1
      over[#over + 1] = id
      into_index(id, completed)
    else
      stale[#stale + 1] = id
    end
  end
  if n == 0 then return end
  redis.call('MSET', unpack(documents))
  for i = 1, n * 2, 2 do redis.call('PUBLISH', documents[i], 'complete') end
  count('completed', n)
end

local function finish(id, kind, json, ttl)
  count(COUNTER[kind], 1)
  if kind == 'unknown' then count('unknown', 1) end
  over[#over + 1] = id
  if ttl < 0 then
    redis.call('UNLINK', id, log_prefix .. string.sub(id, #id_prefix + 1))
  else
    if json ~= '' then
      if ttl > 0 then redis.call('SET', id, json, 'EX', ttl) else redis.call('SET', id, json) end
    end
    into_index(id, INDEX[kind])
    if kind == 'unknown' then redis.call('SADD', unknown, id) end
  end
  redis.call('PUBLISH', id, STATUS[kind])
end

local function put_back(id, kind, json, delay)
  if json ~= '' then redis.call('SET', id, json) end
  if COUNTER[kind] then count(COUNTER[kind], 1) end
  if delay > 0 then
    redis.call('ZADD', incomplete, string.format('%.3f', (now + delay) / 1000), id)
  elseif kind == 'return' and tonumber(redis.call('HGET', crashes, id) or 0) >= alone_after then
    redis.call('LPUSH', suspects, id)
  else
    to_lane(id, queued, priority, priorities, counters, kind == 'return')
  end
  redis.call('HDEL', begun, id)
  redis.call('HDEL', leases, id)
  redis.call('PUBLISH', id, 'queued')
end

-- The key was enqueued again while its aborted run still held the lease: the new job stands, and may have
-- been passed over by a claim meanwhile.
local function release(id, score)
  if score == 0 then to_lane(id, queued, priority, priorities, counters, false) end
  redis.call('HDEL', crashes, id)
  redis.call('HDEL', begun, id)
  redis.call('HDEL', leases, id)
end

-- All other outcomes; from `first` stand for each: id, token, kind, JSON, number, timeline entry, marked.
local function settle_others(first)
  local WIDTH, ids, returned = 7, {}, {}
  for a = first, #ARGV, WIDTH do ids[#ids + 1] = ARGV[a] end
  local held, scores = redis.call('HMGET', leases, unpack(ids)), redis.call('ZMSCORE', incomplete, unpack(ids))
  for i, id in ipairs(ids) do
    local a = first + (i - 1) * WIDTH
    local token, kind, json, number = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4])
    if held[i] ~= token then
      stale[#stale + 1] = id
    elseif not STATUS[kind] and not scores[i] then
      taken[#taken + 1] = id
    else
      if ARGV[a + 6] == '1' then redis.call('LREM', active, 1, id) end
      if ARGV[a + 5] ~= '' then add_log(id, ARGV[a + 5]) end
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

local function count_minute(n)
  local minute = string.format('%.0f', math.floor(now / 60000))
  if redis.call('HINCRBY', minutes, minute, n) ~= n then return end
  for _, old in ipairs(redis.call('HKEYS', minutes)) do
    if tonumber(old) <= tonumber(minute) - MINUTES_KEPT then redis.call('HDEL', minutes, old) end
  end
end

-- The lease goes last: where a structure before it is of the wrong type, the outcomes can be written again.
local function close_books(keep_completed, keep_failed, keep_min, hard, keep_age)
  for index, members in pairs(indexed) do redis.call('ZADD', index, unpack(members)) end
  for _, rare in ipairs({ priorities, crashes, begun }) do
    if redis.call('EXISTS', rare) == 1 then redis.call('HDEL', rare, unpack(over)) end
  end
  redis.call('ZREM', incomplete, unpack(over))
  redis.call('HDEL', leases, unpack(over))
  count_minute(#over)
  local k = { incomplete = incomplete, leases = leases, unknown = unknown, log_prefix = log_prefix,
    prefix_length = #id_prefix }
  for index in pairs(indexed) do
    trim(index, index == failed and keep_failed or keep_completed, now, keep_min, hard, keep_age, #over + 20, k)
  end
end

-- From `first` stand: keep completed, keep failed, keep_min (ms), hard cap, keep_age (ms; 0: none), number of groups
-- of completed jobs, for each its token and size and then its ids and JSONs; then all other outcomes.
local function settle(first)
  local a = first + 6
  for _ = 1, tonumber(ARGV[first + 5]) do
    local last = a + 1 + 2 * tonumber(ARGV[a + 1])
    complete(ARGV[a], a + 2, last)
    a = last + 1
  end
  if a <= #ARGV then settle_others(a) end
  if #over > 0 then
    local keep_min, hard, keep_age = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4])
    close_books(tonumber(ARGV[first]), tonumber(ARGV[first + 1]), keep_min, hard, keep_age)
  end
  for name, n in pairs(counts) do redis.call('HINCRBY', counters, name, n) end
end
