#!lua flags=allow-oom
-- Takes messages that came in out of what may be sent, where the service counts both together.
-- KEYS  rate
-- ARGV  limit (messages a second), how many came in
-- Returns us until the next send may start
--@include _time
--@include _send_rate
local state, count = send_rate(now_ms(), tonumber(ARGV[1])), tonumber(ARGV[2])
state.free_at = math.max(state.free_at, state.now) + count * state.interval
state.received = state.received + count * 1000 / MEAN_MS
keep(state)
return math.floor((state.free_at - state.now) * 1000)
