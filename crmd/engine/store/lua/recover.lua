#!lua flags=allow-oom
-- Gives back what daemons that are gone had leased: those of our own state folder before us, and those that the caller
-- found dead, unless their entry has changed since.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, active, crashes, begun, suspects, daemons
-- ARGV  our instance id, our host prefix (of our instance ids), cursor, batch, new lease token, crashes after which a job
--       runs in isolation, crashes after which it is poison, id prefix length, log prefix, then for each dead daemon its
--       instance id and the entry with which it was found dead (empty: not listed)
-- Returns {next cursor, given back, {id, JSON, outcome, …}, instance ids that hold leases and are not listed}; an outcome is
--          unknown, poison or aborted: these are leased to us, to be settled
--@include _time
--@include _lane
local queued, incomplete, leases, priority, priorities, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local crashes, begun = KEYS[8], KEYS[9]
local me, host_prefix, token = ARGV[1], ARGV[2], ARGV[5]
local isolate_after, poison_after, prefix_length, log_prefix = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local FIRST_DEAD = 10
local now = now_ms()

local dead, found_dead, unlisted = {}, {}, {}
for a = FIRST_DEAD, #ARGV, 2 do dead[ARGV[a]] = ARGV[a + 1] end
local function is_dead(owner)
  if owner == me then return false end
  if found_dead[owner] == nil then
    local own, entry = string.sub(owner, 1, #host_prefix) == host_prefix, redis.call('ZSCORE', KEYS[11], owner) or ''
    if entry == '' and not own then unlisted[#unlisted + 1] = owner end
    found_dead[owner] = own or dead[owner] == entry
  end
  return found_dead[owner]
end

local function note(id, crash_count)
  local log = log_prefix .. string.sub(id, prefix_length + 1)
  local entry = '{"at":%.3f,"event":"lost","delivery":%d,"detail":"its daemon died"}'
  redis.call('RPUSH', log, string.format(entry, now / 1000, crash_count))
  redis.call('LTRIM', log, -50, -1)
end

local page = redis.call('HSCAN', leases, ARGV[3], 'COUNT', ARGV[4])
local entries, returned, ended = page[2], 0, {}
-- From behind, because each goes to the head of its lane.
for i = #entries - 1, 1, -2 do
  local id, lease = entries[i], entries[i + 1]
  if is_dead(string.match(lease, '^(.*):') or lease) then
    redis.call('LREM', KEYS[7], 0, id)
    local outcome
    if not redis.call('ZSCORE', incomplete, id) then
      outcome = 'aborted'
    else
      -- A crash counts once the job is where it goes: where a lane is of the wrong type, this is repeated.
      local crash_count = tonumber(redis.call('HGET', crashes, id) or 0) + 1
      if redis.call('HGET', begun, id) == lease then
        outcome = 'unknown'
      elseif crash_count >= poison_after then
        outcome = 'poison'
      elseif crash_count >= isolate_after then
        redis.call('RPUSH', KEYS[10], id)
      else
        to_lane(id, queued, priority, priorities, counters, true)
      end
      redis.call('HSET', crashes, id, crash_count)
      if not outcome then
        redis.call('HDEL', leases, id)
        returned = returned + 1
      end
      redis.call('HINCRBY', counters, 'lost', 1)
      note(id, crash_count)
    end
    if outcome then
      redis.call('HSET', leases, id, token)
      if outcome == 'unknown' then redis.call('HSET', begun, id, token) end -- should we die before it is settled
      ended[#ended + 1] = id
      ended[#ended + 1] = redis.call('MGET', id)[1] or ''
      ended[#ended + 1] = outcome
    end
  end
end
return { page[1], returned, ended, unlisted }
