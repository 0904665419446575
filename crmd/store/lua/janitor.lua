#!lua flags=allow-oom
-- One bounded step over the store's keys: which jobs of our queues are in no structure, or are kept as finished while
-- their JSON says otherwise.
-- KEYS  for each queue: incomplete, leases, completed, failed, cancelled
-- ARGV  cursor, how many keys to look at, pattern, then for each queue its id prefix
-- Returns {next cursor, {id, …}}
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[3], 'COUNT', ARGV[2], 'TYPE', 'string')
local lost = {}

local function says_finished(id)
  local doc = redis.call('GET', id) or ''
  for _, status in ipairs({ 'complete', 'failed', 'aborted' }) do
    if string.find(doc, '"status": ?"' .. status .. '"') then return true end
  end
  return false
end

for _, id in ipairs(found[2]) do
  for q = 4, #ARGV do
    if string.sub(id, 1, #ARGV[q]) == ARGV[q] then
      local k = (q - 4) * 5
      local known = redis.call('ZSCORE', KEYS[k + 1], id) or redis.call('HEXISTS', KEYS[k + 2], id) == 1
      local kept = false
      for i = 3, 5 do kept = kept or redis.call('ZSCORE', KEYS[k + i], id) end
      if not known and not (kept and says_finished(id)) then lost[#lost + 1] = id end
      break
    end
  end
end
return { found[1], lost }
