#!lua flags=allow-oom
-- Gives back what daemons that are gone had leased: those of our own state folder before us, and those that the caller
-- found dead, unless their entry has changed since.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, active, crashes, begun, suspects, daemons
-- ARGV  our epoch, our identity (prefix of our epochs), cursor, batch, new lease token, deaths after which a job runs
--       alone, deaths after which it is poison, id prefix length, log prefix, then for each dead daemon its epoch and the
--       entry with which it was found dead (empty: not listed)
-- Returns {next cursor, given back, {id, JSON, fate, …}, epochs that hold leases and are not listed}; fate is unknown,
--          poison or aborted: these are leased to us, to be settled
--@include _time
--@include _lane
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local crashes, begun = KEYS[8], KEYS[9]
local me, identity, token = ARGV[1], ARGV[2], ARGV[5]
local alone_after, poison_after, prefix_length, log_prefix = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local FIRST_DEAD = 10
local now = now_ms()

local dead, verdicts, unlisted = {}, {}, {}
for a = FIRST_DEAD, #ARGV, 2 do dead[ARGV[a]] = ARGV[a + 1] end
local function is_dead(owner)
  if owner == me then return false end
  if verdicts[owner] == nil then
    local own, entry = string.sub(owner, 1, #identity) == identity, redis.call('ZSCORE', KEYS[11], owner) or ''
    if entry == '' and not own then unlisted[#unlisted + 1] = owner end
    verdicts[owner] = own or dead[owner] == entry
  end
  return verdicts[owner]
end

local function note(id, deaths)
  local log = log_prefix .. string.sub(id, prefix_length + 1)
  local entry = '{"at":%.3f,"event":"lost","delivery":%d,"detail":"its daemon died"}'
  redis.call('RPUSH', log, string.format(entry, now / 1000, deaths))
  redis.call('LTRIM', log, -50, -1)
end

local page = redis.call('HSCAN', leases, ARGV[3], 'COUNT', ARGV[4])
local entries, returned, fates = page[2], 0, {}
-- From behind, because each goes to the head of its lane.
for i = #entries - 1, 1, -2 do
  local id, lease = entries[i], entries[i + 1]
  if is_dead(string.match(lease, '^(.*):') or lease) then
    redis.call('LREM', KEYS[7], 0, id)
    local fate
    if not redis.call('ZSCORE', incomplete, id) then
      fate = 'aborted'
    else
      -- A death counts once the job is where it goes: where a lane is of the wrong type, this is repeated.
      local deaths = tonumber(redis.call('HGET', crashes, id) or 0) + 1
      if redis.call('HGET', begun, id) == lease then
        fate = 'unknown'
      elseif deaths >= poison_after then
        fate = 'poison'
      elseif deaths >= alone_after then
        redis.call('RPUSH', KEYS[10], id)
      else
        to_lane(id, queued, priority, priorities, counters, true)
      end
      redis.call('HSET', crashes, id, deaths)
      if not fate then
        redis.call('HDEL', leases, id)
        returned = returned + 1
      end
      redis.call('HINCRBY', counters, 'lost', 1)
      note(id, deaths)
    end
    if fate then
      redis.call('HSET', leases, id, token)
      if fate == 'unknown' then redis.call('HSET', begun, id, token) end -- should we die before it is settled
      fates[#fates + 1] = id
      fates[#fates + 1] = redis.call('MGET', id)[1] or ''
      fates[#fates + 1] = fate
    end
  end
end
return { page[1], returned, fates, unlisted }
