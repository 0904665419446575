-- Included: what a worker's trip is given of its queue. KEYS are those of settle_and_claim.lua, and the first four ARGV
-- id prefix, log prefix, unique prefix, crashes after which a job runs in isolation.
--@include _time
-- One table instead of a local for each: a closure over many locals is slow to create, and every run of the script
-- creates all its closures. For the same reason what is rarely needed is inside functions.
local function trip()
  return {
    queued = KEYS[1], incomplete = KEYS[2], leases = KEYS[3], priority = KEYS[4], priorities = KEYS[5], counters = KEYS[6],
    completed = KEYS[7], failed = KEYS[8], cancelled = KEYS[9], unknown = KEYS[10], active = KEYS[11], crashes = KEYS[12],
    begun = KEYS[13], minutes = KEYS[14], suspects = KEYS[15], starts = KEYS[16], buckets = KEYS[17], override = KEYS[18],
    blocked = KEYS[19], paused = KEYS[20], parked = KEYS[21], unique_for = KEYS[22],
    id_prefix = ARGV[1], log_prefix = ARGV[2], unique_prefix = ARGV[3], prefix_length = #ARGV[1],
    isolate_after = tonumber(ARGV[4]), now = now_ms(), clock = 0,
  }
end
