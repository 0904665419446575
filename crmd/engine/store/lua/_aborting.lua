-- Included: whether a SAQ client wrote into a running job's JSON that it is to be aborted, as job.update(status=…) does.
local function says_aborting(id)
  local document = redis.call('GET', id)
  if not document or not string.find(document, '"status": ?"aborting"') then return false end
  local whole, job = pcall(cjson.decode, document) -- the words may stand in the payload
  return whole and type(job) == 'table' and job.status == 'aborting'
end
