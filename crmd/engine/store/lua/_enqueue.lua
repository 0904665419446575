-- Included: adds the jobs of one queue that stand in ARGV from FIRST on, each unless its key is taken: waiting, delayed
-- or active, or held by the unique_for of a job that completed or became unknown. KEYS and the first five ARGV are
-- those of enqueue.lua; the width of an entry stands before FIRST.

-- Returns for each job: 1 created, 0 its key is taken.
local function enqueue()
  local width = tonumber(ARGV[FIRST - 1])
  local prefix_length, log_prefix, unique_prefix = tonumber(ARGV[3]), ARGV[4], ARGV[5]

  local ids, unique_keys = {}, {}
  for a = FIRST, #ARGV, width do
    local id = ARGV[a]
    ids[#ids + 1] = id
    unique_keys[#unique_keys + 1] = unique_prefix .. string.sub(id, prefix_length + 1)
  end
  local scores = redis.call('ZMSCORE', KEYS[2], unpack(ids))
  local leased = redis.call('HMGET', KEYS[3], unpack(ids))
  -- What holds each key, and the unique_for that a kept job under it has.
  local held, spans = {}, {}
  if redis.call('EXISTS', KEYS[12], unpack(unique_keys)) > 0 then
    held = redis.call('MGET', unpack(unique_keys))
    spans = redis.call('HMGET', KEYS[12], unpack(ids))
  end

  -- A daemon of 0.1.0 ends a job and leaves no word under its unique key.
  local function ended_lately(id, span)
    local ended = redis.call('ZSCORE', KEYS[7], id)
    if not ended and redis.call('SISMEMBER', KEYS[10], id) == 1 then ended = redis.call('ZSCORE', KEYS[8], id) end
    return ended and tonumber(ended) + tonumber(span) > now_ms()
  end

  local created, fresh, places, seen, docs, released, left = {}, {}, {}, {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local again = width > 2 and ARGV[FIRST + (i - 1) * width + 6] == '1'
    if scores[i] or leased[i] or seen[id] or (not again and (held[i] or spans[i] and ended_lately(id, spans[i]))) then
      created[i] = 0
    else
      created[i], seen[id] = 1, true
      local n = #fresh + 1
      fresh[n], places[n] = id, i
      docs[n * 2 - 1], docs[n * 2] = id, ARGV[FIRST + (i - 1) * width + 1]
      if held[i] then released[#released + 1] = unique_keys[i] end
      if spans[i] then left[#left + 1] = id end
    end
  end
  if #fresh == 0 then return created end

  -- A key that is enqueued again while its finished job is kept starts over.
  local function forget_old_runs()
    for index = 7, 9 do redis.call('ZREM', KEYS[index], unpack(fresh)) end
    redis.call('SREM', KEYS[10], unpack(fresh))
    redis.call('HDEL', KEYS[5], unpack(fresh))
    redis.call('HDEL', KEYS[11], unpack(fresh))
    for _, id in ipairs(fresh) do redis.call('UNLINK', log_prefix .. string.sub(id, prefix_length + 1)) end
  end

  -- Into a lane first: where that is of the wrong type, no job is stored that nobody would find.
  local function store_waiting()
    redis.call('RPUSH', KEYS[1], unpack(fresh))
    local zadd = {}
    for n, id in ipairs(fresh) do zadd[n * 2 - 1], zadd[n * 2] = '0', id end
    redis.call('MSET', unpack(docs))
    redis.call('ZADD', KEYS[2], unpack(zadd))
  end

  -- Those with a time, a priority or a unique_for among them.
  local function store_others()
    local now, waiting, ranked, zadd, uniques, soonest = now_ms(), {}, {}, {}, {}, nil
    for n, id in ipairs(fresh) do
      local a = FIRST + (places[n] - 1) * width
      local delay, due, rank = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), ARGV[a + 4]
      if rank ~= '0' then redis.call('HSET', KEYS[5], id, rank) end
      if ARGV[a + 5] ~= '0' then
        uniques[#uniques + 1] = id
        uniques[#uniques + 1] = ARGV[a + 5]
      end
      if delay >= 0 then due = now + delay end
      zadd[n * 2] = id
      if due > now then
        zadd[n * 2 - 1] = string.format('%.3f', due / 1000)
        soonest = math.min(soonest or due, due)
      else
        zadd[n * 2 - 1] = '0'
        local lane = rank ~= '0' and ranked or waiting
        lane[#lane + 1] = id
      end
    end
    for _, id in ipairs(ranked) do to_lane(id, KEYS[1], KEYS[4], KEYS[5], KEYS[6], false) end
    if #waiting > 0 then redis.call('RPUSH', KEYS[1], unpack(waiting)) end
    redis.call('MSET', unpack(docs))
    redis.call('ZADD', KEYS[2], unpack(zadd))
    if #uniques > 0 then redis.call('HSET', KEYS[12], unpack(uniques)) end
    local wake = #ranked > 0
    if soonest then
      local first = redis.call('ZRANGEBYSCORE', KEYS[2], '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      wake = wake or tonumber(first[2]) * 1000 >= soonest - 1
    end
    if wake then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
  end

  if redis.call('EXISTS', unpack(fresh)) > 0 then forget_old_runs() end
  if #left > 0 then redis.call('HDEL', KEYS[12], unpack(left)) end
  if #released > 0 then redis.call('UNLINK', unpack(released)) end
  if width == 2 then store_waiting() else store_others() end
  return created
end
