-- Included: whether a request that may be repeated is still known. Its record has a fingerprint of its jobs (8 bytes), the
-- time with which the keys that were made for it begin (6), how many jobs it has (2; the highest bit says that some, but
-- not all, had keys of their own), until when it is known in any case (4, epoch seconds), then which jobs were not created: a bit
-- for each, or, as the second highest bit of their number says, the lengths of the runs of created and of other jobs in turn (1
-- each; 0 joins two of one kind). Those that are left were created. All numbers are big-endian.
local COUNT_AT, MIXED_KEYS, RUNS = 15, 32768, 16384

-- In parts, so that one which lives is found after few.
local function any_lives(ids, incomplete, leases)
  for first = 1, #ids, 100 do
    local last = math.min(first + 99, #ids)
    for _, score in ipairs(redis.call('ZMSCORE', incomplete, unpack(ids, first, last))) do
      if score then return true end
    end
    for _, token in ipairs(redis.call('HMGET', leases, unpack(ids, first, last))) do
      if token then return true end
    end
  end
  return false
end

-- The ids of jobs whose keys were made for the request; those of others exist under no such id.
local function made_ids(digest, record, id_prefix)
  local raw, ids = string.sub(record, 9, 14) .. string.sub(digest, 1, 8), {}
  local head = id_prefix .. string.gsub(raw, '.', function(c) return string.format('%02x', string.byte(c)) end)
  for i = 1, struct.unpack('>I2', record, COUNT_AT) % RUNS do ids[i] = head .. string.format('%04x', i - 1) end
  return ids
end
