-- Included: what a request gets that was made before. Its jobs' ids stand in ARGV, each `width` after the last.
--@include _request

-- {again, time of the first's keys, which of its jobs were not created, 1 if as run lengths and not as bits}, {differs}, or nil:
-- it is not known.
local function first_answer(requests, incomplete, leases, digest, fingerprint, id_prefix, first, width)
  local record = redis.call('HGET', requests, digest)
  if not record then return nil end
  if struct.unpack('>I4', record, COUNT_AT + 2) * 1000 <= now_ms() then
    local ids = made_ids(digest, record, id_prefix)
    for a = first, #ARGV, width do ids[#ids + 1] = ARGV[a] end -- those with keys of their own are among these
    if not any_lives(ids, incomplete, leases) then return nil end
  end
  if string.sub(record, 1, 8) ~= fingerprint then return { 'differs' } end
  local as_runs = struct.unpack('>I2', record, COUNT_AT) % MIXED_KEYS >= RUNS and 1 or 0
  return { 'again', string.sub(record, 9, 14), string.sub(record, COUNT_AT + 6), as_runs }
end
