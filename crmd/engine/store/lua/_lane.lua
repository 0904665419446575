-- Included: puts a job into its lane. Priorities order first, arrival second; what goes to the front of a lane
-- arrives before everything that is there.
local PRIORITY_STEP = 8796093022208 -- 2^43

-- Whether the job has a rank, and so went to the priority lane.
local function to_priority(id, priority, priorities, counters, front)
  local rank = tonumber(redis.call('HGET', priorities, id) or 0)
  if not rank or rank <= 0 then return false end
  local arrival = front and redis.call('HINCRBY', counters, 'front', -1) or redis.call('HINCRBY', counters, 'seq', 1)
  redis.call('ZADD', priority, rank * PRIORITY_STEP + arrival, id)
  return true
end

local function to_lane(id, queued, priority, priorities, counters, front)
  if to_priority(id, priority, priorities, counters, front) then return true end
  redis.call(front and 'LPUSH' or 'RPUSH', queued, id)
  return false
end
