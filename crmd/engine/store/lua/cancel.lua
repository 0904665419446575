#!lua flags=allow-oom
-- Cancels one job: at once where it waits, by a word to its daemon where it runs.
-- KEYS  queued, incomplete, leases, priority, suspects, cancelled, counters, priorities, crashes, completed, failed, unknown
-- ARGV  id, JSON when it waits (status aborted), JSON when it runs (status aborting), wake channel, log key, timeline entry,
--       longest lane to search for the id
-- Returns waiting (cancelled now), active (asked for), or gone (neither waits nor runs)
--@include _time
local id, now = ARGV[1], now_ms()
if redis.call('HEXISTS', KEYS[3], id) == 1 then
  redis.call('ZREM', KEYS[2], id)
  redis.call('SET', id, ARGV[3], 'KEEPTTL')
  redis.call('PUBLISH', id, 'aborting')
  redis.call('PUBLISH', ARGV[4], 'cancel ' .. id)
  return 'active'
end
if redis.call('ZREM', KEYS[2], id) == 0 then return 'gone' end
-- In a longer lane the id stays behind as a stale entry, which a claim drops.
if redis.call('LLEN', KEYS[1]) <= tonumber(ARGV[7]) then redis.call('LREM', KEYS[1], 1, id) end
redis.call('ZREM', KEYS[4], id)
redis.call('LREM', KEYS[5], 1, id)
redis.call('HDEL', KEYS[8], id)
redis.call('HDEL', KEYS[9], id)
redis.call('SET', id, ARGV[2])
-- A plain client may have added it under the key of a job that is kept as finished.
redis.call('ZREM', KEYS[10], id)
redis.call('ZREM', KEYS[11], id)
redis.call('SREM', KEYS[12], id)
redis.call('ZADD', KEYS[6], string.format('%.0f', now), id)
redis.call('HINCRBY', KEYS[7], 'cancelled', 1)
redis.call('RPUSH', ARGV[5], ARGV[6])
redis.call('PUBLISH', id, 'aborted')
return 'waiting'
