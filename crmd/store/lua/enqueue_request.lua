#!lua
-- Adds the jobs of a request that may be repeated. A repeat adds nothing and gets the first answer again, for a day, and
-- as long as one of the jobs waits or runs.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, crashes, unique_for,
--       requests
-- ARGV  wake channel, queue name, id prefix length, log prefix, unique prefix, digest of whose request it is (12 bytes),
--       fingerprint of its jobs (8 bytes), time of the keys made for it (6 bytes), some, but not all, have keys of their own
--       (1), id prefix, how long it is known in any case (s), width, then the jobs as enqueue.lua takes them
-- Returns {first, for each job: 1 created, 0 taken}, {again, time of the first's keys, its bits of jobs that were not
--          created}, or {differs}: the first had other jobs
--@include _time
--@include _lane
--@include _first_answer
local FIRST = 13
--@include _enqueue
local digest, fingerprint, time, mixed_keys, id_prefix = ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '1', ARGV[10]
local width, now = tonumber(ARGV[FIRST - 1]), now_ms()

local function bits_not_created(created)
  local bytes, last = {}, 0
  for first = 1, #created, 8 do
    local byte = 0
    for i = 0, 7 do
      if created[first + i] == 0 then byte = byte + 2 ^ i end
    end
    bytes[#bytes + 1] = string.char(byte)
    if byte > 0 then last = #bytes end
  end
  return table.concat(bytes, '', 1, last)
end

-- A day after the first answer, or after the last job is due.
local function known_until(jobs)
  local latest = now
  for i = 0, width > 2 and jobs - 1 or -1 do
    local delay, due = tonumber(ARGV[FIRST + i * width + 2]), tonumber(ARGV[FIRST + i * width + 3])
    latest = math.max(latest, delay >= 0 and now + delay or due)
  end
  return math.min(math.ceil(latest / 1000) + tonumber(ARGV[11]), 2 ^ 32 - 1)
end

local answer = first_answer(KEYS[13], KEYS[2], KEYS[3], digest, fingerprint, id_prefix, FIRST, width)
if answer then return answer end
local created = enqueue()
local numbers = struct.pack('>I2I4', #created + (mixed_keys and MIXED_KEYS or 0), known_until(#created))
redis.call('HSET', KEYS[13], digest, fingerprint .. time .. numbers .. bits_not_created(created))
table.insert(created, 1, 'first')
return created
