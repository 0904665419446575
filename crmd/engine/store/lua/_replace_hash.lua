-- Included: puts a hash in the place of another, with its end (ms; '0': for good), so that nobody sees it half done.
-- ARGV from `first` on: name, value, … (none: only deletes)
local function replace_hash(key, life, first)
  redis.call('DEL', key)
  if not ARGV[first] then return end
  redis.call('HSET', key, unpack(ARGV, first))
  if life ~= '0' then redis.call('PEXPIRE', key, life) end
end
