#!lua flags=allow-oom
-- Gives out when the next sends may start: evenly spaced, and only those of the next moment, so that what the service
-- counts besides is heeded, and a daemon that dies loses few.
-- KEYS  rate
-- ARGV  limit (messages a second), how many are wanted, how far ahead (ms), how late a start may still be made up for (ms)
-- Returns {how many are given, us until the first (or, where none is, until it is worth asking again), us between them}
--@include _time
--@include _send_rate
local wanted, ahead, late = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local state = send_rate(now_ms(), tonumber(ARGV[1]))
if state.free_at > longest(state) then keep(state) end
if wanted > 0 and state.free_at < state.now - COLD_MS and not state.refused then warm_up(state) end
local first = math.max(state.free_at, state.now - late)
local room, between = state.now + ahead - first, math.floor(state.interval * 1000)
if room < 0 then return { 0, math.ceil(-room * 1000), between } end
local given = math.min(wanted, math.floor(room / state.interval) + 1)
state.free_at = first + given * state.interval
keep(state)
return { given, math.floor((first - state.now) * 1000), between }
