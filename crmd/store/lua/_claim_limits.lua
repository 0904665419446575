-- Included: keyed limits. A burst is debt: n starts at once are followed by n periods of rest. Within the
-- burst's window up to `burst` may start; once it is over the key rests until the debt is paid.
local LIMIT_SLACK_MS = 60000

local function limit_keys(json, limits)
  local ok, doc = pcall(cjson.decode, json)
  local kwargs = ok and type(doc) == 'table' and doc.kwargs
  local keys = {}
  if type(kwargs) ~= 'table' then return keys end
  for i, limit in ipairs(limits) do
    local value = kwargs[limit.by]
    if type(value) == 'string' or type(value) == 'number' then
      local text = type(value) == 'number' and string.format('%.17g', value) or value
      if #text > 128 then text = redis.sha1hex(text) end
      keys[#keys + 1] = { name = limit.id .. '=' .. text, limit = limits[i] }
    end
  end
  return keys
end

-- When the key may start one more, in ms; now or earlier means free.
local function limit_free_at(state_key, limit, now)
  local state = redis.call('HMGET', state_key, 'start', 'count', 'blocked')
  local blocked = tonumber(state[3]) or 0
  if blocked > now then return blocked end
  local start, count = tonumber(state[1]), tonumber(state[2])
  if not start then return now end
  local paid_at = start + count * limit.period
  if now >= paid_at then return now end
  if now >= start and now - start <= limit.window and count < limit.burst then return now end
  return math.ceil(paid_at)
end

local function limit_spend(state_key, limit, now)
  local state = redis.call('HMGET', state_key, 'start', 'count')
  local start, count = tonumber(state[1]), tonumber(state[2])
  if not start or now >= start + count * limit.period then start, count = now, 0 end
  count = count + 1
  redis.call('HSET', state_key, 'start', string.format('%.0f', start), 'count', count)
  redis.call('PEXPIRE', state_key, math.ceil(start + count * limit.period - now) + LIMIT_SLACK_MS)
end
