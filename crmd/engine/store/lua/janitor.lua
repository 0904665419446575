#!lua flags=no-writes
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

local function is_lost(id, k)
  if redis.call('ZSCORE', KEYS[k + 1], id) or redis.call('HEXISTS', KEYS[k + 2], id) == 1 then return false end
  local kept = false
  for i = 3, 5 do kept = kept or redis.call('ZSCORE', KEYS[k + i], id) end
  return not (kept and says_finished(id))
end

for _, id in ipairs(found[2]) do
  for q = 4, #ARGV do
    if string.sub(id, 1, #ARGV[q]) == ARGV[q] then
      -- Where a structure is of the wrong type nothing can be said of the queue's jobs.
      local whole, is = pcall(is_lost, id, (q - 4) * 5)
      if whole and is then lost[#lost + 1] = id end
      break
    end
  end
end
return { found[1], lost }
