std = "lua51"
-- Checked is what the store gets: the scripts with what they include.
read_globals = { "redis", "KEYS", "ARGV", "cjson", "struct" }
max_line_length = 130
ignore = { "211", "431" } -- not every script uses all that it includes, whose parameters may have names of the script
