-- Included: puts a job into its lane. Priorities order first, arrival second; the front of a lane is arrival 0.
local PRIORITY_STEP = 8796093022208 -- 2^43

local function to_lane(id, queued, priority, priorities, counters, front)
  local p = tonumber(redis.call('HGET', priorities, id) or 0)
  if p and p > 0 then
    local seq = front and 0 or redis.call('HINCRBY', counters, 'seq', 1)
    redis.call('ZADD', priority, p * PRIORITY_STEP + seq, id)
    return true
  end
  redis.call(front and 'LPUSH' or 'RPUSH', queued, id)
  return false
end
