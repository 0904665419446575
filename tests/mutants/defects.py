"""Defects that somebody could write, each with the tests that have to notice it.

`find` stands once in all of `crmd`, in whichever file; `tests` are a folder of tests and words of `pytest -k`.
"""

from __future__ import annotations

from typing import NamedTuple


class Defect(NamedTuple):
    """One small change of the code that makes it wrong."""

    name: str
    find: str
    put: str
    tests: str


DEFECTS = (
    # claims
    Defect(
        "a delayed job is promoted a second late",
        "string.format('%.3f', k.now / 1000), 'LIMIT', 0, BATCH",
        "string.format('%.3f', k.now / 1000 - 1), 'LIMIT', 0, BATCH",
        "lua -k claim",
    ),
    Defect(
        "a promoted job stays due",
        "redis.call('ZADD', k.incomplete, unpack(zeros))",
        "",
        "lua -k claim or model",
    ),
    Defect(
        "a paused queue starts jobs",
        "if redis.call('EXISTS', k.paused) == 1 then return",
        "if redis.call('EXISTS', k.paused) == 2 then return",
        "lua -k claim",
    ),
    Defect(
        "a queue that was told to slow down starts jobs",
        "if blocked_until > k.clock then return 'blocked'",
        "if blocked_until > k.clock + 60000 then return 'blocked'",
        "lua -k limit or claim",
    ),
    Defect(
        "the normal lane starves beside priorities",
        "local NORMAL_SHARE = 10",
        "local NORMAL_SHARE = 1000",
        "lua -k claim",
    ),
    Defect(
        "a job that runs is leased again",
        "if leased[i] or seen[id] or (score",
        "if seen[id] or (score",
        "lua -k claim or model",
    ),
    Defect(
        "a job that was put off starts at once",
        "(score and score * 1000 > k.now)",
        "(score and score * 1000 > k.now + 3600000)",
        "lua -k claim",
    ),
    Defect(
        "an id of another queue is claimed",
        "elseif not docs[i] or string.sub(id, 1, k.prefix_length) ~= k.id_prefix then",
        "elseif not docs[i] then",
        "lua -k claim",
    ),
    Defect(
        "a job that runs again is kept as completed",
        "redis.call('ZREM', k.completed, unpack(ids))",
        "",
        "lua -k test_claim",
    ),
    Defect(
        "a claim from both lanes takes one job too many away",
        "redis.call('LTRIM', k.queued, normals, -1)",
        "redis.call('LTRIM', k.queued, normals + 1, -1)",
        "lua -k claim or model",
    ),
    Defect(
        "a limit leaves no start for a job that has to run by itself",
        "c.allowed = math.min(slots, allowance - reserved)",
        "c.allowed = math.min(slots, allowance)",
        "lua -k claim or rate",
    ),
    Defect(
        "a claim does not say when the next parked job is free",
        "local wait = c.any_parked and parked_wait(k) or -1",
        "local wait = -1",
        "lua -k limits",
    ),
    Defect(
        "what goes back does not go to the head of its lane",
        "redis.call(front and 'LPUSH' or 'RPUSH', queued, id)",
        "redis.call('RPUSH', queued, id)",
        "lua -k settle or recover",
    ),
    # rolling limits
    Defect(
        "a start counts for a moment less than the window",
        "if now - tonumber(at) <= period then return allowed",
        "if now - tonumber(at) < period then return allowed",
        "lua -k rate",
    ),
    Defect(
        "a large limit forgets its starts in half the window",
        "if now - last <= period then",
        "if now - last <= period / 2 then",
        "lua -k rate",
    ),
    Defect(
        "starts of a bucket count from its beginning",
        "local last = math.max(now, math.ceil((math.floor(now / width) + 1) * width) - 1)",
        "local last = math.floor(math.floor(now / width) * width)",
        "lua -k rate",
    ),
    Defect(
        "windows have no safety margin",
        "min(period_ms * SAFETY_SHARE, SAFETY_MAX_MS)",
        "min(period_ms * SAFETY_SHARE, 0)",
        "lua -k limit or rate or indexes",
    ),
    # keyed limits
    Defect(
        "a key rests for one start of its burst",
        "local paid_at = start + count * limit.period",
        "local paid_at = start + limit.period",
        "lua -k limits",
    ),
    Defect(
        "a burst is one longer",
        "if k.clock >= start and count < limit.burst then",
        "if k.clock >= start and count <= limit.burst then",
        "lua -k limits",
    ),
    Defect(
        "a burst never ends",
        "local ends = (tonumber(state[4]) or start) + limit.window",
        "local ends = (tonumber(state[4]) or start) + limit.window * 1000",
        "lua -k limits",
    ),
    Defect(
        "a job that its key lets start is parked behind itself",
        "if key.name ~= own and (behind",
        "if (behind",
        "lua -k limits",
    ),
    Defect(
        "a parked job stays parked while it runs",
        "redis.call('LPOP', list)",
        "",
        "lua -k limits",
    ),
    Defect(
        "true is a key of a limit",
        "if isinstance(value, bool) or not isinstance(value, str | int | float):\n        return None\n    try:",
        "if not isinstance(value, str | int | float):\n        return None\n    try:",
        "lua -k limit",
    ),
    Defect(
        "a shorter slow-down ends a longer one",
        "if till > tonumber(redis.call('GET', KEYS[1]) or 0) then",
        "if true then",
        "lua -k limit or slow",
    ),
    Defect(
        "a clock that was set forward frees limits",
        "if wrong and clock > latest and ARGV[told + 3] == '0' then return clock, correction, 'unsure' end",
        "",
        "lua -k clock",
    ),
    Defect(
        "a clock is put right to before what started",
        "local right = wrong and math.max(earliest, last) or last",
        "local right = wrong and earliest or last",
        "lua -k clock",
    ),
    Defect(
        "a clock that was set back holds a limit for as long",
        "if clock >= right - LIMIT_TOLERANCE_MS and not wrong then",
        "if not wrong then",
        "lua -k clock",
    ),
    # outcomes
    Defect(
        "a daemon that lost its lease completes the job",
        "if held[i] == token then",
        "if held[i] then",
        "lua -k settle or model",
    ),
    Defect(
        "a daemon that lost its lease fails the job",
        "if held[i] ~= token then",
        "if not held[i] then",
        "lua -k settle or model",
    ),
    Defect(
        "a cancelled job is tried again",
        "elseif not STATUS[kind] and not scores[i] then",
        "elseif false then",
        "lua -k settle or model",
    ),
    Defect(
        "a retry is due at once",
        "string.format('%.3f', (k.now + delay) / 1000)",
        "string.format('%.3f', (k.now + delay / 1000) / 1000)",
        "lua -k settle",
    ),
    Defect(
        "an unknown job is listed as failed only",
        "if kind == 'unknown' then redis.call('SADD', k.unknown, id) end",
        "",
        "lua -k settle",
    ),
    Defect(
        "jobs that are given back change their order",
        "for r = #returned, 1, -1 do",
        "for r = 1, #returned do",
        "lua -k settle",
    ),
    Defect(
        "the JSON of a job that is queued again is trimmed",
        "if not scores[i] and not held[i] then",
        "if not held[i] then",
        "lua -k trim",
    ),
    Defect(
        "a finished job is gone before its time",
        "gone = math.min(over, math.max(old, over - hard))",
        "gone = over",
        "lua -k trim",
    ),
    Defect(
        "an effect begins after its lease went to another",
        "if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end",
        "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end",
        "lua -k running or effect",
    ),
    Defect(
        "an effect begins after the job was cancelled",
        "if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end",
        "",
        "lua -k running or effect",
    ),
    # adding, by hand
    Defect(
        "a key is free while its cancelled job still runs",
        "if scores[i] or leased[i] or seen[id] or",
        "if scores[i] or seen[id] or",
        "lua -k enqueue",
    ),
    Defect(
        "one call adds a key twice",
        "created[i], seen[id] = 1, true",
        "created[i] = 1",
        "lua -k enqueue",
    ),
    Defect(
        "nobody is woken for a job that is due sooner",
        "soonest = math.min(soonest or due, due)",
        "soonest = nil",
        "lua -k enqueue",
    ),
    Defect(
        "a daemon is not told of a cancel",
        "redis.call('PUBLISH', ARGV[4], 'cancel ' .. id)",
        "",
        "lua -k cancel",
    ),
    Defect(
        "a job that is queued by hand leaves its unique key held",
        "redis.call('UNLINK', ARGV[9]) --",
        "--",
        "lua -k unique or hand",
    ),
    Defect(
        "what changed meanwhile is settled by hand",
        "or redis.call('GET', id) ~= ARGV[2] then return 0 end",
        "then return 0 end",
        "lua -k hand or unknown",
    ),
    # recovery, schedules, sends
    Defect(
        "a daemon takes its own leases for those of a dead one",
        "if owner == me then return false end",
        "",
        "lua -k recover",
    ),
    Defect(
        "a daemon that renewed since is dead all the same",
        "own or dead[owner] == entry",
        "own or dead[owner] ~= nil",
        "lua -k recover",
    ),
    Defect(
        "a daemon is dead before its lease is over",
        "if one.since <= last)",
        "if one.since <= last + LEASE_S)",
        "unit -k lease",
    ),
    Defect(
        "a daemon that slept has watched the others all the time",
        "self._watched_s += min(now - self._asked_at, LONGEST_GAP_S)",
        "self._watched_s += now - self._asked_at",
        "unit -k lease",
    ),
    Defect(
        "a paused schedule adds its job",
        "if known[1] ~= seen or known[2] then",
        "if known[1] ~= seen then",
        "lua -k schedule",
    ),
    Defect(
        "a schedule is due at the moment it was due before",
        "if due > at_ms and (best is None or due < best):",
        "if due >= at_ms and (best is None or due < best):",
        "unit -k cron or schedule",
    ),
    Defect(
        "a refused rate is not halved",
        "local half, knee = math.max(LEAST, refused / 2),",
        "local half, knee = math.max(LEAST, refused),",
        "lua -k send_rate",
    ),
    Defect(
        "one send more than there is room for is given out",
        "math.floor(room / state.interval) + 1",
        "math.floor(room / state.interval) + 2",
        "lua -k send_rate",
    ),
    Defect(
        "refusals of one moment halve the rate again and again",
        "> state.cut_at + tonumber(ARGV[3])",
        "> state.cut_at - tonumber(ARGV[3]) - 3600000",
        "lua -k send_rate",
    ),
    # policies
    Defect(
        "the first wait is twice as long",
        "exponent = min(attempt - 1, 62)",
        "exponent = min(attempt, 62)",
        "unit -k retry or backoff or test_outcome",
    ),
    Defect(
        "a job gets one attempt more",
        ".attempt >= allowed:",
        ".attempt > allowed:",
        "unit -k outcome or ending",
    ),
    Defect(
        "an error allows more attempts than the job has",
        "if max_attempts is None else min(",
        "if max_attempts is None else max(",
        "unit -k outcome or ending",
    ),
    Defect(
        "errors that come in during a wait lengthen it",
        "if now >= park.until:",
        "if True:",
        "crm -k pace or rate",
    ),
    Defect(
        "the breaker opens one failure late",
        "if self._failures_in_row < BREAKER_FAILURES:",
        "if self._failures_in_row <= BREAKER_FAILURES:",
        "crm -k pace or rate",
    ),
    Defect(
        "a marketing cap is tried once more",
        "later = self._ctx.attempt < (row.max_attempts or 1)",
        "later = self._ctx.attempt <= (row.max_attempts or 1)",
        "crm -k whatsapp_errors",
    ),
    Defect(
        "a Canadian number is one of the United States",
        "int(digits[1:4]) not in _OTHER_AREAS",
        "int(digits[1:4]) not in ()",
        "crm -k whatsapp_errors",
    ),
    Defect(
        "an invalid token fails the job in place of pausing the queue",
        'ErrorRow(190, "token invalid or expired", A,',
        'ErrorRow(190, "token invalid or expired", X,',
        "crm -k whatsapp_errors",
    ),
    Defect(
        "a mail that was refused for good is sent again",
        "if not outcome.passing:",
        "if outcome.passing:",
        "crm -k email",
    ),
    Defect(
        "no credit counts as too many requests",
        "if status == 402 or (status == 429 and refused.code in _NO_CREDIT):",
        "if status == 402:",
        "crm -k ai",
    ),
)
