"""Every key that crmd touches, named in one place. `docs/reference/keys.md` lists them with their types.

What starts with `saq:` is SAQ's and stays as SAQ has it. What starts with `crmd:` is ours.
"""

from __future__ import annotations

from functools import cached_property

WAKE_CHANNEL = "crmd:wake"
"""Pub/sub channel: a queue's name (look now), or `cancel <job id>`."""

DAEMONS = "crmd:daemons"
"""zset: instance id of a daemon -> when its leases expire, in ms of the store's clock; each renewal changes it."""

UNIQUE_FOR = "crmd:unique_for"
"""hash: queue -> its unique_for in ms, as the daemons' configuration has it; for programs at the store."""

ABORT_PREFIX = "saq:abort:"
"""string with TTL, one for each abort by a plain SAQ client; the key bears no queue name."""

JOB_PREFIX = "saq:job:"


def daemon_info(instance_id: str) -> str:
    """string with TTL: JSON about one live daemon."""
    return f"crmd:daemon:{instance_id}"


def daemon_jobs(instance_id: str) -> str:
    """string with TTL: JSON of the names of the jobs that one live daemon knows, by queue."""
    return f"crmd:daemon:{instance_id}:jobs"


def alert(kind: str, queue: str) -> str:
    """string with TTL: since when an alert about a queue lasts, in ms of the store's clock."""
    return f"crmd:alert:{kind}:{queue}"


def schedule(name: str) -> str:
    """hash with TTL: times, position, last run and pause of one schedule."""
    return f"crmd:schedule:{name}"


def send_rate(phone_number_id: str) -> str:
    """hash with TTL: how fast messages leave from a WhatsApp number, and when the next may."""
    return f"crmd:whatsapp:{phone_number_id}:rate"


class QueueKeys:
    """The keys of one queue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.job_prefix = f"{JOB_PREFIX}{name}:"
        """Prefix of a job's id; the string at `<prefix><key>` is the job's JSON."""
        self.queued = f"saq:{name}:queued"
        """list of job ids: the normal lane, first in, first out."""
        self.active = f"saq:{name}:active"
        """list of job ids that have run for longer than 50 ms; absent when there is none."""
        self.incomplete = f"saq:{name}:incomplete"
        """zset: job id -> 0 when waiting or active, else the time it is due, in epoch seconds."""
        self.stats = f"saq:{name}:stats"
        """zset that SAQ workers keep: one entry each -> until when it is alive, in ms. crmd only reads it."""
        self.leases = self._own("leases")
        """hash: job id -> lease token `<instance id>:<claim number>`."""
        self.priority = self._own("priority")
        """zset: the priority lane, job id -> priority * 2^43 + arrival number."""
        self.priorities = self._own("priorities")
        """hash: job id -> its priority, 1 to 10; only of live jobs that have one."""
        self.suspects = self._own("suspects")
        """list of job ids whose daemon died twice with them; each runs in isolation."""
        self.crashes = self._own("crashes")
        """hash: job id -> how often its daemon died with it."""
        self.begun = self._own("begun")
        """hash: job id -> token of the lease under which its effect began."""
        self.starts = self._own("starts")
        """list: times of the last starts in ms, for rolling limits of up to 1,000."""
        self.buckets = self._own("buckets")
        """hash: last ms of a bucket -> starts in it, for rolling limits above 1,000."""
        self.override = self._own("override")
        """hash with optional TTL: count, period_ms, text and until of a limit set by hand."""
        self.blocked = self._own("blocked")
        """string with TTL: ms until which the outside asked the queue to slow down."""
        self.paused = self._own("paused")
        """hash with optional TTL: reason, by, at, until of a pause."""
        self.parked = self._own("parked")
        """zset: limit key -> when it is free, in ms; only keys that have parked jobs."""
        self.parked_prefix = self._own("parked:")
        """list of job ids at `<prefix><limit key>`: parked until their key is free."""
        self.limit_prefix = self._own("limit:")
        """hash with TTL at `<prefix><limit key>`: start, length and last start of the burst, time of a block."""
        self.completed = self._own("completed")
        """zset: id of a kept completed job -> its end in ms."""
        self.failed = self._own("failed")
        """zset: id of a kept failed or unknown job -> its end in ms."""
        self.cancelled = self._own("cancelled")
        """zset: id of a kept cancelled job -> its end in ms."""
        self.unknown = self._own("unknown")
        """set of ids: which of the failed are unknown."""
        self.counters = self._own("counters")
        """hash: all-time counts, the time of the last start in ms, what corrects the clock of limits."""
        self.minutes = self._own("minutes")
        """hash: minute number -> jobs finished in it; the last twenty."""
        self.quarantine = self._own("quarantine")
        """list: the last 100 entries that could not be read, as JSON of id, reason and raw text."""
        self.unique_prefix = self._own("unique:")
        """string with TTL at `<prefix><key>`: the key is taken; completed, unknown (its job's end) or 1."""
        self.unique_for = self._own("unique_for")
        """hash: job id -> ms that its key stays taken once it completed; only of kept jobs that have it."""
        self.requests = self._own("requests")
        """hash: digest of a request that may be repeated -> its record, as _request.lua describes it."""
        self.log_prefix = self._own("log:")
        """list at `<prefix><key>`: a job's timeline, JSON entries, at most 50."""

    def _own(self, part: str) -> str:
        return f"crmd:q:{self.name}:{part}"

    def job_id(self, key: str) -> str:
        """A job's id in the store, from its key."""
        return self.job_prefix + key

    def key_of(self, job_id: str) -> str:
        """A job's key, from its id in the store."""
        return job_id[len(self.job_prefix) :]

    def log(self, key: str) -> str:
        """list: one job's timeline."""
        return self.log_prefix + key

    @cached_property
    def indexes(self) -> tuple[str, str, str]:
        """The three zsets of kept finished jobs."""
        return (self.completed, self.failed, self.cancelled)
