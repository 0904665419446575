#!lua
-- Notes that an alert lasts, and since when.
-- KEYS  alert
-- ARGV  now (ms), ms after which an alert that nobody has seen is forgotten
-- Returns since when it lasts (ms)
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
