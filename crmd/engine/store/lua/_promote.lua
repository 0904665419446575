-- Included: moves delayed jobs that are due into their lanes.
--@include _lane

-- In how many ms the next delayed job is due; 0 or less: now, nil: there is none.
local function next_due(incomplete, now)
  local first = redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and math.ceil(tonumber(first[2]) * 1000 - now)
end

-- A bounded batch. Into a lane first, then to 0: where a lane is of the wrong type, the job stays due. `k` holds the
-- keys queued, incomplete, priority, priorities and counters, and `now`.
local function promote(k)
  local BATCH = 200
  local due = redis.call('ZRANGEBYSCORE', k.incomplete, '(0', string.format('%.3f', k.now / 1000), 'LIMIT', 0, BATCH)
  if #due == 0 then return end
  local any_ranked, plain, zeros = redis.call('EXISTS', k.priorities) == 1, {}, {}
  for _, id in ipairs(due) do
    if not (any_ranked and to_priority(id, k.priority, k.priorities, k.counters, false)) then plain[#plain + 1] = id end
    zeros[#zeros + 1] = '0'
    zeros[#zeros + 1] = id
  end
  if #plain > 0 then redis.call('RPUSH', k.queued, unpack(plain)) end
  redis.call('ZADD', k.incomplete, unpack(zeros))
end
