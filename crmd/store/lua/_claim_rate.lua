-- Included: the rolling limit of a queue. At most `count` starts in any `period` ms, in the store's time.
-- Up to EXACT starts are remembered one by one; larger limits in a hundred buckets, each taken as if all
-- its starts came at its end, so that a bucket never lets one too many through.
local EXACT, BUCKETS = 1000, 100

local function bucket_usage(buckets, period, now)
  local width = period / BUCKETS
  local current, used, stale, first = math.floor(now / width), 0, {}, nil
  local entries = redis.call('HGETALL', buckets)
  for i = 1, #entries, 2 do
    local bucket = tonumber(entries[i])
    if bucket < current - BUCKETS then
      stale[#stale + 1] = entries[i]
    else
      used = used + tonumber(entries[i + 1])
      if not first or bucket < first then first = bucket end
    end
  end
  if #stale > 0 then redis.call('HDEL', buckets, unpack(stale)) end
  return used, first and (first + BUCKETS + 1) * width or now, current
end

-- How many of `want` may start now, and when the next may, in ms.
local function rate_allowance(starts, buckets, count, period, now, want)
  if count > EXACT then
    local used, free_at = bucket_usage(buckets, period, now)
    local allowed = math.min(want, count - used)
    return math.max(0, allowed), math.ceil(free_at)
  end
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

local function rate_spend(starts, buckets, count, period, now, spent)
  if count > EXACT then
    local width = period / BUCKETS
    redis.call('HINCRBY', buckets, string.format('%.0f', math.floor(now / width)), spent)
    redis.call('PEXPIRE', buckets, math.ceil(period * 2))
    return
  end
  local at = {}
  for i = 1, spent do at[i] = string.format('%.0f', now) end
  redis.call('RPUSH', starts, unpack(at))
  redis.call('LTRIM', starts, -EXACT, -1)
  redis.call('PEXPIRE', starts, math.ceil(period) + 60000)
end
