#!lua flags=no-writes
-- Says which commands the user that runs this may not run. None of them is run.
-- ARGV  for each command: number of its words, the words
-- Returns the positions of those denied, from 1
local denied, a, position = {}, 1, 1
while a <= #ARGV do
  local last = a + tonumber(ARGV[a])
  if not redis.acl_check_cmd(unpack(ARGV, a + 1, last)) then denied[#denied + 1] = position end
  a, position = last + 1, position + 1
end
return denied
