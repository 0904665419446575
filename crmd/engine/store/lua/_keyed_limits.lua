-- Included: keyed limits. A burst is debt: n starts at once are followed by n periods of rest. Up to `burst` may start
-- while none is later than a window after the one before; then the burst is over, and the key rests until the debt is
-- paid. A conversation goes on: up to `free_debt` starts may be owed without a rest. `k` holds limit_prefix,
-- parked_prefix, parked and clock.
--@include _limit_margins

-- When the key may start one more, in ms; now or earlier means free.
local function limit_free_at(k, name, limit)
  local state = redis.call('HMGET', k.limit_prefix .. name, 'start', 'count', 'blocked', 'last')
  local blocked = tonumber(state[3]) or 0
  if blocked > k.clock then return blocked end
  local start, count = tonumber(state[1]), tonumber(state[2])
  if not start then return k.clock end
  local paid_at = start + count * limit.period
  if k.clock >= paid_at then return k.clock end
  if k.clock >= start and count < limit.burst then
    local ends = (tonumber(state[4]) or start) + limit.window
    if k.clock <= ends or paid_at - ends <= limit.free_debt * limit.period then return k.clock end
  end
  return math.ceil(paid_at)
end

-- Updates the time at which a parked key is free, or forgets the key when nothing is parked behind it.
local function requeue_key(k, name, limit)
  if redis.call('EXISTS', k.parked_prefix .. name) == 0 then
    redis.call('ZREM', k.parked, name)
  else
    local at = limit and limit_free_at(k, name, limit) or k.clock
    redis.call('ZADD', k.parked, string.format('%.0f', at), name)
  end
end

-- The limits of the queue, on the jobs of one claim: `park_or_spend` and `limit_of`.
local function keyed_limits(k, limits)
  local LONGEST_TEXT = 128

  local function keys_of(json)
    local ok, doc = pcall(cjson.decode, json)
    local kwargs = ok and type(doc) == 'table' and doc.kwargs
    local keys = {}
    if type(kwargs) ~= 'table' then return keys end
    for _, limit in ipairs(limits) do
      local value = kwargs[limit.by]
      if type(value) == 'string' or type(value) == 'number' then
        local text = type(value) == 'number' and string.format('%.17g', value) or value
        if #text > LONGEST_TEXT then text = redis.sha1hex(text) end
        keys[#keys + 1] = { name = limit.id .. '=' .. text, limit = limit }
      end
    end
    return keys
  end

  local function spend(name, limit)
    local state_key = k.limit_prefix .. name
    local state = redis.call('HMGET', state_key, 'start', 'count')
    local start, count = tonumber(state[1]), tonumber(state[2])
    if not start or k.clock >= start + count * limit.period then start, count = k.clock, 0 end
    count = count + 1
    redis.call('HSET', state_key, 'start', string.format('%.0f', start), 'count', count, 'last', string.format('%.0f', k.clock))
    redis.call('PEXPIRE', state_key, math.ceil(start + count * limit.period - k.clock) + LIMIT_SLACK_MS)
  end

  -- Parks the job behind the first of its keys that is not free, or spends one start of each; says whether it parked.
  local function park_or_spend(id, json, own)
    local keys = keys_of(json)
    for _, key in ipairs(keys) do
      local list = k.parked_prefix .. key.name
      local behind = redis.call('EXISTS', list) == 1
      if key.name ~= own and (behind or limit_free_at(k, key.name, key.limit) > k.clock) then
        redis.call('RPUSH', list, id)
        requeue_key(k, key.name, key.limit)
        return true
      end
    end
    for _, key in ipairs(keys) do spend(key.name, key.limit) end
    return false
  end

  local function limit_of(name)
    for _, limit in ipairs(limits) do
      if string.sub(name, 1, #limit.id + 1) == limit.id .. '=' then return limit end
    end
  end

  return { park_or_spend = park_or_spend, limit_of = limit_of }
end

-- Gives one job from the head of each of at most `most` keys that have become free to `lease(id, name)`; returns how
-- many keys were looked at. Without `limits` every key is free.
local function unpark(k, limits, most, lease)
  local now_text = string.format('%.0f', k.clock)
  local names = redis.call('ZRANGEBYSCORE', k.parked, '-inf', now_text, 'LIMIT', 0, most)
  for _, name in ipairs(names) do
    local list, limit = k.parked_prefix .. name, limits and limits.limit_of(name)
    local id = redis.call('LINDEX', list, 0)
    if id and not (limit and limit_free_at(k, name, limit) > k.clock) then
      lease(id, name)
      redis.call('LPOP', list)
    end
    requeue_key(k, name, limit)
  end
  return #names
end

-- In how many ms the first of the parked keys becomes free; -1: none is parked.
local function parked_wait(k)
  local first = redis.call('ZRANGE', k.parked, 0, 0, 'WITHSCORES')
  return #first > 0 and math.max(1, tonumber(first[2]) - k.clock) or -1
end
