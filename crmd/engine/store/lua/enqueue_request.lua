#!lua
-- Adds the jobs of a request that may be repeated. A repeat adds nothing and gets the first answer again, for a day, and
-- as long as one of the jobs waits or runs.
-- KEYS  queued, incomplete, leases, priority, priorities, counters, completed, failed, cancelled, unknown, crashes, unique_for,
--       requests
-- ARGV  wake channel, queue name, id prefix length, log prefix, unique prefix, digest of whose request it is (12 bytes),
--       fingerprint of its jobs (8 bytes), time of the keys made for it (6 bytes), some, but not all, have keys of their own
--       (1), id prefix, how long it is known in any case (s), width, then the jobs as enqueue.lua takes them
-- Returns {first, for each job: 1 created, 0 taken}, {again, time of the first's keys, which of its jobs were not created, 1 if
--          as run lengths and not as bits}, or {differs}: the first had other jobs
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

-- Shorter where few were taken, or many beside each other.
local function runs_of_created(created)
  local lengths, kind, length = {}, 1, 0
  for _, one in ipairs(created) do
    if one ~= kind then
      lengths[#lengths + 1] = length
      kind, length = one, 0
    elseif length == 255 then
      lengths[#lengths + 1], lengths[#lengths + 2] = length, 0
      length = 0
    end
    length = length + 1
  end
  if kind == 0 then lengths[#lengths + 1] = length end
  return string.char(unpack(lengths))
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
local flags, count = bits_not_created(created), #created + (mixed_keys and MIXED_KEYS or 0)
if #flags > 1 then
  local runs = runs_of_created(created)
  if #runs < #flags then
    flags, count = runs, count + RUNS
  end
end
redis.call('HSET', KEYS[13], digest, fingerprint .. time .. struct.pack('>I2I4', count, known_until(#created)) .. flags)
table.insert(created, 1, 'first')
return created
