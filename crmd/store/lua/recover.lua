#!lua flags=allow-oom
-- Gives back what daemons that are gone had leased: those of our own state folder before us, and, once we may judge,
-- those whose leases expired.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, active, crashes, begun, suspects, daemons
-- ARGV  our epoch, our identity (prefix of our epochs), judge (1: expired leases too), cursor, batch,
--       new lease token, deaths after which a job runs alone, deaths after which it is poison, id prefix length, log prefix
-- Returns {next cursor, given back, {id, JSON, fate, …}} where fate is unknown, poison or aborted: these are leased to us, to be
--          settled
--@include _time
--@include _lane
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local crashes, begun = KEYS[8], KEYS[9]
local me, identity, judge, token = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[6]
local alone_after, poison_after, prefix_length, log_prefix = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local now = now_ms()

local verdicts = {}
local function is_dead(owner)
  if owner == me then return false end
  if verdicts[owner] == nil then
    local expires = tonumber(redis.call('ZSCORE', KEYS[11], owner) or 0)
    verdicts[owner] = string.sub(owner, 1, #identity) == identity or (judge and expires < now)
  end
  return verdicts[owner]
end

local function note(id, deaths)
  local log = log_prefix .. string.sub(id, prefix_length + 1)
  local entry = '{"at":%.3f,"event":"lost","delivery":%d,"detail":"its daemon died"}'
  redis.call('RPUSH', log, string.format(entry, now / 1000, deaths))
  redis.call('LTRIM', log, -50, -1)
end

local page = redis.call('HSCAN', leases, ARGV[4], 'COUNT', ARGV[5])
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
return { page[1], returned, fates }
