#!lua flags=allow-oom
-- The service refused a send for its rate: halves the rate, once for all refusals of the same moment.
-- KEYS  rate
-- ARGV  limit (messages a second), ms since the refused send started, ms after a cut in which it may still say the same
-- Returns {1 where the rate was halved, else 0; the rate from now on, in thousandths of a send a second}
--@include _time
--@include _send_rate
local state = send_rate(now_ms(), tonumber(ARGV[1]))
local halved = not state.cut_at or state.now - tonumber(ARGV[2]) > state.cut_at + tonumber(ARGV[3])
if halved then
  state.refused, state.cut_at = state.rate, state.now
  state.rate = math.max(LEAST, state.rate / 2)
  keep(state)
end
return { halved and 1 or 0, math.floor(state.rate * 1000) }
