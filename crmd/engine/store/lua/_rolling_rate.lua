-- Included: the rolling limit of a queue. At most `count` starts in any `period` ms, by the clock of limits.
-- Up to EXACT starts are remembered one by one; larger limits in buckets of a hundredth of the period, each
-- named by its last ms and taken as if all its starts came then, so that none lets one too many through.
-- Neither expires: they are bounded, and a clock that is set forward would forget what has just started. 0.1.0 lets them.
-- Gives `allowance(want)`: how many of `want` may start now, and when the next may, in ms; and `spend(spent)`.
local function rolling_rate(starts, buckets, count, period, now)
  local EXACT, BUCKETS = 1000, 100

  local function bucket_allowance(want)
    local used, first = 0, nil
    local entries = redis.call('HGETALL', buckets)
    for i = 1, #entries, 2 do
      local last = tonumber(entries[i])
      if now - last <= period then
        used = used + tonumber(entries[i + 1])
        first = math.min(first or last, last)
      end
    end
    return math.max(0, math.min(want, count - used)), first and first + period + 1 or now
  end

  local function bucket_spend(spent)
    local width = period / BUCKETS
    local last = math.max(now, math.ceil((math.floor(now / width) + 1) * width) - 1)
    redis.call('HINCRBY', buckets, string.format('%.0f', last), spent)
    redis.call('PERSIST', buckets)
    if redis.call('HLEN', buckets) <= 2 * BUCKETS then return end
    for _, name in ipairs(redis.call('HKEYS', buckets)) do
      if now - tonumber(name) > period then redis.call('HDEL', buckets, name) end
    end
  end

  local function exact_allowance(want)
    local size = redis.call('LLEN', starts)
    if size < count and count - size >= want then return want, now end
    -- The j-th start from now is allowed when the one `count` before it has left the window.
    local first = size - count
    local old = redis.call('LRANGE', starts, math.max(0, first), math.max(0, first) + want)
    local allowed = math.max(0, -first)
    for _, at in ipairs(old) do
      if allowed >= want then break end
      if now - tonumber(at) <= period then return allowed, tonumber(at) + period + 1 end
      allowed = allowed + 1
    end
    return math.min(allowed, want), now
  end

  local function exact_spend(spent)
    local at = {}
    for i = 1, spent do at[i] = string.format('%.0f', now) end
    redis.call('RPUSH', starts, unpack(at))
    redis.call('LTRIM', starts, -EXACT, -1)
    redis.call('PERSIST', starts)
  end

  if count > EXACT then return { allowance = bucket_allowance, spend = bucket_spend } end
  return { allowance = exact_allowance, spend = exact_spend }
end
