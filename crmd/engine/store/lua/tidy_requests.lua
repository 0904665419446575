#!lua flags=allow-oom
-- One bounded step over the requests that may be repeated: forgets those whose time is over and of whose jobs none lives.
-- KEYS  requests, incomplete, leases
-- ARGV  cursor, how many to look at, id prefix, how much longer (s) one is known of whose jobs some have keys of their own
--       and some have none
-- Returns {next cursor, how many were forgotten, 1 if it stopped because it had looked for as many jobs as one step may}
--@include _time
--@include _request
local MOST_JOBS = 2000
local time = now_ms()
local now, forgotten, looked = time / 1000, 0, 0
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local entries = page[2]
-- From another one each time: those whose jobs live must not use up each step before the same others.
local count = #entries / 2
for n = 0, count - 1 do
  local i = (time + n) % count * 2 + 1
  local digest, record = entries[i], entries[i + 1]
  local jobs, known_until = struct.unpack('>I2I4', record, COUNT_AT)
  -- The ids of such jobs are known only to who repeats the request. Forgotten, it would add those without keys once more;
  -- where all have keys of their own, those that live are taken in any case.
  local over = now - known_until - (jobs >= MIXED_KEYS and tonumber(ARGV[4]) or 0)
  if over >= 0 then
    looked = looked + jobs % RUNS
    if not any_lives(made_ids(digest, record, ARGV[3]), KEYS[2], KEYS[3]) then
      redis.call('HDEL', KEYS[1], digest)
      forgotten = forgotten + 1
    end
  end
  -- The rest of the page is looked at again, unless that would go on for ever.
  if looked >= MOST_JOBS then return { forgotten > 0 and ARGV[1] or page[1], forgotten, 1 } end
end
return { page[1], forgotten, 0 }
