std = "lua51"
-- What files named _*.lua define is included into the scripts by crmd/store/library.py.
read_globals = {
  "redis", "KEYS", "ARGV", "cjson",
  "now_ms", "to_lane", "to_priority", "trim", "rate_allowance", "rate_spend",
  "limit_keys", "limit_free_at", "limit_spend",
}
max_line_length = 130
files["**/_*.lua"] = { ignore = { "211" } }
