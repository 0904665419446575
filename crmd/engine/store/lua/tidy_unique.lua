#!lua flags=allow-oom
-- One bounded step over the jobs that have a unique_for: forgets those that are gone without a word, and makes the keys
-- hold of those that a daemon of 0.1.0 ended, which knows nothing of it.
-- KEYS  unique_for, incomplete, leases, completed, failed, unknown
-- ARGV  cursor, how many to look at, id prefix length, unique prefix
-- Returns {next cursor, how many were forgotten}
--@include _time
local now, forgotten = now_ms(), 0

local function ended_at(id)
  local completed = redis.call('ZSCORE', KEYS[4], id)
  if completed then return 'completed', tonumber(completed) end
  if redis.call('SISMEMBER', KEYS[6], id) == 1 then
    return 'unknown', tonumber(redis.call('ZSCORE', KEYS[5], id) or now)
  end
end

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local entries = page[2]
for i = 1, #entries, 2 do
  local id = entries[i]
  if not (redis.call('ZSCORE', KEYS[2], id) or redis.call('HEXISTS', KEYS[3], id) == 1) then
    local state, at = ended_at(id)
    local left = state and at + tonumber(entries[i + 1]) - now or 0
    local key = string.sub(id, tonumber(ARGV[3]) + 1)
    if left > 0 then redis.call('SET', ARGV[4] .. key, state, 'PX', string.format('%.0f', left), 'NX') end
    if redis.call('EXISTS', id) == 0 then
      redis.call('HDEL', KEYS[1], id)
      forgotten = forgotten + 1
    end
  end
end
return { page[1], forgotten }
