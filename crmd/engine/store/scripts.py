"""The scripts as typed methods. Replies are decoded here; callers never index into them."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from crmd.engine.group_commit import GroupCommit
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.limit_clock import LimitClock
from crmd.engine.store.limits import limits_json, rate_window
from crmd.engine.store.replies import (
    Ack,
    AckKind,
    Claimed,
    Inspected,
    NewDocument,
    RawCounts,
    RecoverStep,
    RequestRecord,
    RequestReply,
    Tick,
    TripReply,
    text,
)
from crmd.errors import RequestError, UnknownQueue

MAX_JOBS_PER_CALL = 500
"""Bounds one script's time: Lua's stack holds 8,000 arguments, and 500 jobs take some 10 ms of the store."""
ENQUEUE_BATCH = 500
ALONE_FROM = 50
"""A caller with this many jobs gains nothing by sharing a call, and would make others wait."""
REQUEST_LIFE_S = 86_400
"""A request that may be repeated is known this long after its first answer, and after its last job is due."""
MIXED_KEYS_LIFE_S = 30 * 86_400
"""So much longer where only some of its jobs have keys of their own: whether these live only a repeat can tell."""
HARD_CAP = 10_000 - 64
"""Finished jobs over the count that keep_min may hold back: 10,000, less those that may end between two trims."""
LONGEST_LANE_SEARCH = 10_000
"""A lane up to this long is searched for a cancelled id (0.5 ms); in a longer one it stays as a stale entry."""
QUARANTINE_KEPT = 100
ISOLATE_AFTER_CRASHES = 2
POISON_AFTER_CRASHES = 3


class QueueScripts:
    """The operations on one queue."""

    def __init__(self, store: Store, name: str, registry: SettingsRegistry) -> None:
        self.store = store
        self.keys = k = QueueKeys(name)
        self._registry = registry
        self._enqueue_keys = (
            *(k.queued, k.incomplete, k.leases, k.priority, k.priorities, k.counters, *k.indexes, k.unknown),
            *(k.crashes, k.unique_for),
        )
        self._enqueue_args = (keys.WAKE_CHANNEL, k.name, len(k.job_prefix), k.log_prefix, k.unique_prefix)
        self._clock = LimitClock(lambda: store.monotonic())
        self._together = GroupCommit(
            self._enqueue_groups, ENQUEUE_BATCH, _is_of_one_caller, writes=sys.maxsize, size=len
        )
        self._trip_keys = (
            *(k.queued, k.incomplete, k.leases, k.priority, k.priorities, k.counters, *k.indexes, k.unknown),
            *(k.active, k.crashes, k.begun, k.minutes, k.suspects, k.starts, k.buckets),
            *(k.override, k.blocked, k.paused, k.parked, k.unique_for),
        )
        self._trip_args = (k.job_prefix, k.log_prefix, k.unique_prefix, ISOLATE_AFTER_CRASHES)
        self._made_for: QueueSettings | None = None

    @property
    def settings(self) -> QueueSettings:
        """The queue's settings in force."""
        return self._registry.queues[self.keys.name]

    @property
    def retention(self) -> tuple[int, int, int, int, int]:
        """Completed and failed jobs kept, keep_min (ms), the most that this keeps, keep_age (ms; 0: none)."""
        self._follow_settings()
        return self._retention

    def _follow_settings(self) -> None:
        """Makes the arguments that depend on the settings again if these have changed."""
        settings = self._registry.queues[self.keys.name]
        if settings is self._made_for:
            return
        k = self.keys
        self._claim_args = (*self.rate_args, limits_json(settings), k.limit_prefix, k.parked_prefix)
        self._retention = _retention(settings)
        self._made_for = settings

    @property
    def rate_args(self) -> tuple[int, int]:
        """Starts and period in ms of the configured limit; 0, 0 without one."""
        return rate_window(self.settings.rate_limit)

    async def enqueue(self, documents: Sequence[NewDocument]) -> list[bool]:
        """Adds jobs, in as few trips as their number allows; says of each whether it is new."""
        if len(documents) >= ALONE_FROM:
            return await self._enqueue(documents)
        return await self._together.call(documents)

    async def _enqueue_groups(self, groups: Sequence[Sequence[NewDocument]]) -> list[list[bool]]:
        created = iter(await self._enqueue([document for group in groups for document in group]))
        return [list(islice(created, len(group))) for group in groups]

    async def _enqueue(self, documents: Sequence[NewDocument]) -> list[bool]:
        created: list[bool] = []
        for start in range(0, len(documents), ENQUEUE_BATCH):
            args = [*self._enqueue_args, *_document_args(documents[start : start + ENQUEUE_BATCH])]
            created += [flag == 1 for flag in await self.store.call("enqueue", self._enqueue_keys, args)]
        return created

    async def enqueue_request(self, documents: Sequence[NewDocument], record: RequestRecord) -> RequestReply:
        """Adds the jobs of a request that may be repeated, in one step; raises RequestError where the first had
        other jobs."""
        k = self.keys
        time_ = record.time_ms.to_bytes(6, "big")
        args = (
            *(*self._enqueue_args, record.digest, record.fingerprint, time_, int(record.mixed_keys)),
            *(k.job_prefix, REQUEST_LIFE_S, *_document_args(documents)),
        )
        what, *rest = await self.store.call("enqueue_request", (*self._enqueue_keys, k.requests), args)
        if what == b"first":
            return RequestReply(False, record.time_ms, [flag == 1 for flag in rest])
        return _first_answer(what, rest, len(documents))

    async def recall_request(self, documents: Sequence[NewDocument], record: RequestRecord) -> RequestReply | None:
        """The answer to a request that was made before, and None to a new one; adds nothing, and needs no memory.

        Raises RequestError where the first had other jobs.
        """
        k = self.keys
        args = (record.digest, record.fingerprint, k.job_prefix, *(document.job_id for document in documents))
        names = (k.requests, k.incomplete, k.leases)
        what, *rest = await self.store.call("recall_request", names, args)
        return None if what == b"unknown" else _first_answer(what, rest, len(documents))

    async def settle_and_claim(self, acks: Sequence[Ack], token: str, slots: int) -> TripReply:
        """One trip: writes at most MAX_JOBS_PER_CALL acks, then leases up to `slots` waiting jobs to `token`.

        Without acks it only claims, with 0 slots it only settles.
        """
        if not acks:
            return TripReply([], [], await self.claim(token, slots))
        if not slots:
            return TripReply(*await self.settle(acks))
        self._follow_settings()
        sent_ms, told = self._clock.ask()
        slots = min(slots, MAX_JOBS_PER_CALL)
        args: list[str | bytes | int] = [*self._trip_args, slots, token, 0, *self._claim_args, *told]
        args += self._retention
        args += _ack_args(acks)
        stale, aborted, claimed = await self.store.call("settle_and_claim", self._trip_keys, args)
        reply = TripReply([i.decode() for i in stale], [i.decode() for i in aborted])
        if isinstance(claimed, Exception):
            reply.claim_error = self.store.translate(claimed)
        else:
            reply.claimed = self._read_claim(claimed, sent_ms)
        return reply

    async def claim(self, token: str, slots: int, *, isolated: bool = False) -> Claimed:
        """Leases up to `slots` waiting jobs to `token`; `isolated`: one that crashed its daemons, and no other."""
        self._follow_settings()
        sent_ms, told = self._clock.ask()
        slots = min(slots, MAX_JOBS_PER_CALL)
        args = [*self._trip_args, slots, token, int(isolated), *self._claim_args, *told]
        return self._read_claim(await self.store.call("claim", self._trip_keys, args), sent_ms)

    async def settle(self, acks: Sequence[Ack]) -> tuple[list[str], list[str]]:
        """Writes at most MAX_JOBS_PER_CALL acks. Returns ids that were not ours, and ids an abort took."""
        self._follow_settings()
        args = [*self._trip_args, *self._retention, *_ack_args(acks)]
        stale, aborted = await self.store.call("settle", self._trip_keys, args)
        return [i.decode() for i in stale], [i.decode() for i in aborted]

    async def promote_due(self) -> int:
        """Moves a batch of the delayed jobs that are due into their lanes.

        Returns in how many ms the next one is due: 0 where more are due now, -1 where there is none.
        """
        k = self.keys
        names = (k.queued, k.incomplete, k.priority, k.priorities, k.counters)
        return int(await self.store.call("promote_due", names))

    def _read_claim(self, reply: Sequence[Any], sent_ms: float) -> Claimed:
        claimed = _claimed(reply)
        if claimed.clock_ms:
            self._clock.see(sent_ms, claimed.reason, claimed.clock_ms, claimed.correction_ms)
        return claimed

    async def mark(self, jobs: Iterable[tuple[str, str, bytes, bool]], advanced: Container[str] = ()) -> list[int]:
        """Writes running jobs' JSON: (id, token, JSON, becomes active). 1 written, 0 not ours,
        -1 aborted, -2 to be aborted. The crashes of those whose ids are `advanced` count no more."""
        k, args = self.keys, list[str | bytes | int]()
        for job_id, token, document, first in jobs:
            args += (job_id, token, document, int(first) + (2 if job_id in advanced else 0))
        return list(await self.store.call("mark", (k.incomplete, k.leases, k.active, k.crashes), args))

    async def begin_effect(self, job_id: str, token: str) -> bool:
        """Notes that an effect begins; False when the job is no longer ours."""
        k = self.keys
        return await self.store.call("begin_effect", (k.leases, k.begun, k.incomplete), (job_id, token)) == 1

    async def running(self, held: Iterable[tuple[str, str]]) -> list[int]:
        """For each (id, token): 1 ours, 0 not, -1 aborted, -2 ours and to be aborted."""
        args = [part for pair in held for part in pair]
        if not args:
            return []
        return list(await self.store.call("running", (self.keys.incomplete, self.keys.leases), args))

    async def trim(self, batch: int = 500) -> int:
        """Deletes finished jobs over the counts, at most `batch` of each kind; returns how many."""
        k = self.keys
        names = (*k.indexes, k.unknown, k.incomplete, k.leases, k.unique_for)
        args = (len(k.job_prefix), k.log_prefix, *self.retention, batch)
        return int(await self.store.call("trim", names, args))

    async def recover(
        self,
        instance_id: str,
        host_prefix: str,
        token: str,
        *,
        dead: Mapping[str, str] = MappingProxyType({}),
        cursor: str = "0",
        batch: int = 200,
    ) -> RecoverStep:
        """One step of giving back what our predecessors leased, and `dead`: instance ids and their entries.

        The instance ids of our predecessors begin with `host_prefix`.
        """
        k = self.keys
        names = (
            *(k.queued, k.incomplete, k.leases, k.priority, k.priorities, k.counters, k.active, k.crashes),
            *(k.begun, k.suspects, keys.DAEMONS),
        )
        args = (
            *(instance_id, host_prefix, cursor, batch, token, ISOLATE_AFTER_CRASHES, POISON_AFTER_CRASHES),
            *(len(k.job_prefix), k.log_prefix),
            *(part for pair in dead.items() for part in pair),
        )
        following, returned, flat, unlisted = await self.store.call("recover", names, args)
        ended = [(text(flat[i]), flat[i + 1], flat[i + 2].decode()) for i in range(0, len(flat), 3)]
        return RecoverStep(following.decode(), returned, ended, [text(owner) for owner in unlisted])

    async def leases(self) -> dict[str, str]:
        """All leases of the queue: id to token. As many as jobs run on all daemons."""
        flat = await self.store.command("HGETALL", self.keys.leases)
        return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}

    async def effect_tokens(self, job_ids: Sequence[str]) -> dict[str, str | None]:
        """For each job the token of the lease under which its effect began, or None."""
        tokens = await self.store.command("HMGET", self.keys.begun, *job_ids)
        return {job_id: token and text(token) for job_id, token in zip(job_ids, tokens, strict=True)}

    async def cancel(self, job_id: str, waiting: bytes, running: bytes, entry: bytes) -> str:
        """Cancels: `waiting` (done), `active` (asked for) or `gone`."""
        k = self.keys
        names = (
            *(k.queued, k.incomplete, k.leases, k.priority, k.suspects, k.cancelled, k.counters),
            *(k.priorities, k.crashes, k.completed, k.failed, k.unknown),
        )
        log = k.log(k.key_of(job_id))
        args = (job_id, waiting, running, keys.WAKE_CHANNEL, log, entry, LONGEST_LANE_SEARCH)
        answer: bytes = await self.store.call("cancel", names, args)
        return answer.decode()

    async def finalise_abort(self, job_id: str, read: bytes, document: bytes, entry: bytes) -> bool:
        """Ends a job that a plain client aborted and left in no structure."""
        k = self.keys
        names = (k.incomplete, k.leases, *k.indexes, k.counters, k.priorities, k.crashes)
        args = (job_id, read, document, k.log(k.key_of(job_id)), entry)
        return await self.store.call("finalise_abort", names, args) == 1

    async def requeue(
        self, job_id: str, document: bytes, entry: bytes, *, priority: int = 0, completed: bool = False
    ) -> int:
        """Queues a finished job again: 1 done, 0 it is live, -1 not allowed, -2 gone."""
        k = self.keys
        names = (k.queued, k.incomplete, k.leases, k.priority, k.priorities, k.counters, *k.indexes, k.unknown)
        key = k.key_of(job_id)
        args = (
            *(job_id, document, priority, k.log(key), entry, keys.WAKE_CHANNEL, k.name, int(completed)),
            k.unique_prefix + key,
        )
        return int(await self.store.call("requeue", names, args))

    async def settle_unknown(
        self, job_id: str, read: bytes, document: bytes, entry: bytes, *, completed: bool
    ) -> bool:
        """Ends an unknown job as completed or failed; False when it is not unknown, or changed meanwhile."""
        k = self.keys
        names = (k.incomplete, k.leases, k.completed, k.failed, k.unknown, k.unique_for)
        key = k.key_of(job_id)
        args = (job_id, read, document, int(completed), k.log(key), entry, k.unique_prefix + key)
        return await self.store.call("settle_unknown", names, args) == 1

    async def promote(self, job_id: str) -> bool:
        """Lets a delayed job wait for its turn now; False when it is not delayed."""
        k = self.keys
        names = (k.queued, k.incomplete, k.leases, k.priority, k.priorities, k.counters)
        return await self.store.call("promote", names, (job_id, keys.WAKE_CHANNEL, k.name)) == 1

    async def delete(self, job_id: str) -> int:
        """Deletes a job: 1 done, 0 it runs, -1 no such job."""
        k = self.keys
        key = k.key_of(job_id)
        names = (
            *(k.queued, k.incomplete, k.leases, k.priority, k.suspects, *k.indexes, k.unknown),
            *(k.priorities, k.crashes, k.unique_for),
        )
        args = (job_id, k.log(key), k.unique_prefix + key, LONGEST_LANE_SEARCH)
        return int(await self.store.call("delete", names, args))

    async def tidy_requests(self, cursor: str, count: int) -> tuple[str, int, bool]:
        """One step over the requests that may be repeated: next cursor, how many were forgotten, and whether it
        stopped early, for the many jobs that they had."""
        k = self.keys
        args = (cursor, count, k.job_prefix, MIXED_KEYS_LIFE_S)
        names = (k.requests, k.incomplete, k.leases)
        following, forgotten, early = await self.store.call("tidy_requests", names, args)
        return following.decode(), forgotten, early == 1

    async def tidy_unique(self, cursor: str, count: int) -> tuple[str, int, bool]:
        """One step over the jobs that have a unique_for, as `tidy_requests`; it never stops early."""
        k = self.keys
        names = (k.unique_for, k.incomplete, k.leases, k.completed, k.failed, k.unknown)
        args = (cursor, count, len(k.job_prefix), k.unique_prefix)
        following, forgotten = await self.store.call("tidy_unique", names, args)
        return following.decode(), forgotten, False

    async def quarantine(self, job_id: str | bytes, token: str, entry: bytes) -> bool:
        """Sets an unreadable entry aside."""
        k = self.keys
        names = (k.incomplete, k.leases, k.quarantine, k.counters, k.priorities, k.crashes, k.begun, k.unique_for)
        args = (job_id, token, entry, QUARANTINE_KEPT, len(k.job_prefix), k.log_prefix)
        return await self.store.call("quarantine", names, args) == 1

    async def pause(self, fields: Mapping[str, str | float], seconds: float | None) -> None:
        """Pauses the queue for this long, or for good; `fields` say who paused it, when and why."""
        await self.store.call("pause", (self.keys.paused,), (_life_ms(seconds), *_flat(fields)))

    async def resume(self) -> None:
        """Ends the pause, and the hold that the outside asked for."""
        k = self.keys
        await self.store.call("resume", (k.paused, k.blocked, k.counters), (keys.WAKE_CHANNEL, k.name))

    async def limit(self, fields: Mapping[str, str | float], seconds: float | None) -> None:
        """Sets the limit by hand for this long, or for good; no `fields` remove it."""
        args = (_life_ms(seconds), keys.WAKE_CHANNEL, self.keys.name, *_flat(fields))
        await self.store.call("limit", (self.keys.override,), args)

    async def slow_down(self, seconds: float, limit_keys: Sequence[str] = ()) -> None:
        """Holds the queue, or the given limit keys, for a while, on all daemons."""
        k = self.keys
        self._follow_settings()
        sent_ms, told = self._clock.ask()
        args = (max(1, round(seconds * 1000)), k.limit_prefix, *told, *limit_keys)
        clock_ms, correction_ms = await self.store.call("slow_down", (k.blocked, k.parked, k.counters), args)
        self._clock.meet(sent_ms, clock_ms, correction_ms)

    async def counts(self) -> RawCounts:
        """How many jobs are in each state, and what holds the queue."""
        k = self.keys
        names = (
            *(k.queued, k.incomplete, k.leases, k.priority, *k.indexes, k.unknown, k.paused, k.override),
            *(k.blocked, k.starts, k.buckets, k.counters, k.minutes, k.parked),
        )
        reply = await self.store.call("counts", names, (*self.rate_args, k.parked_prefix))
        now, waiting, delayed, active, completed, failed, cancelled, unknown = reply[:8]
        pause, override, blocked, left, oldest, counters, minutes = reply[8:]
        return RawCounts(
            *(now, waiting, delayed, active, completed, failed, cancelled, unknown),
            *(_hash(pause), _hash(override), blocked, left, oldest, _hash(counters)),
            {int(minute): int(count) for minute, count in _hash(minutes).items()},
        )

    async def inspect(self, job_ids: Sequence[str], *, timeline: bool = False) -> list[Inspected]:
        """All that is known of some jobs."""
        k = self.keys
        if not job_ids:
            return []
        names = (k.incomplete, k.leases, k.failed, k.completed, k.cancelled, k.unknown, k.priorities, k.crashes)
        args = (len(k.job_prefix), k.log_prefix, int(timeline), *job_ids)
        answers = await self.store.call("inspect", names, args)
        return [_inspected(job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]


class ScriptsByQueue(dict[str, QueueScripts]):
    """The scripts of each queue of the registry; another name raises UnknownQueue, which lists the names."""

    def __init__(self, store: Store, registry: SettingsRegistry) -> None:
        super().__init__({name: QueueScripts(store, name, registry) for name in registry.queues})
        self._store, self._registry = store, registry

    def __missing__(self, name: str) -> QueueScripts:
        if name not in self._registry.queues:
            raise UnknownQueue(f"no queue {name!r}; there are: {', '.join(self._registry.queues)}")
        scripts = self[name] = QueueScripts(self._store, name, self._registry)
        return scripts


async def denied(store: Store, commands: Sequence[Sequence[str]]) -> list[int]:
    """The positions of those commands that the store's user may not run; none of them is run."""
    args = [part for command in commands for part in (len(command), *command)]
    return [position - 1 for position in await store.call("access", (), args)]


async def renew(
    store: Store,
    instance_id: str,
    lease_ms: int,
    info: bytes = b"",
    info_ttl_s: int = 0,
    jobs: bytes = b"",
    queues: Sequence[QueueSettings] = (),
) -> int:
    """Renews a daemon's leases; with `info` also its entries and what adders need to know of its queues.

    Returns the store's time in ms.
    """
    names = (keys.DAEMONS, keys.daemon_info(instance_id), keys.daemon_jobs(instance_id), keys.UNIQUE_FOR)
    spans = (part for one in queues for part in (one.name, round(one.unique_for_seconds * 1000)))
    return int(await store.call("renew", names, (instance_id, lease_ms, info, info_ttl_s, jobs, *spans)))


async def tick(store: Store, queues: Sequence[QueueScripts]) -> Tick:
    """What a daemon looks at once a second, for all its queues in one trip."""
    names, args = [keys.DAEMONS], list[int]()
    for queue in queues:
        names += (queue.keys.incomplete, *queue.keys.indexes)
        completed, failed, keep_min, _, keep_age = queue.retention
        args += (completed, failed, keep_min, keep_age)
    now, daemons, due, untrimmed = await store.call("tick", names, args)
    return Tick(now, _hash(daemons), due, [flag == 1 for flag in untrimmed])


async def echo(store: Store, statuses: Iterable[tuple[str, str]]) -> int:
    """Publishes terminal statuses once more, where plain clients listen."""
    args = [part for pair in statuses for part in pair]
    return int(await store.call("echo", (), args)) if args else 0


async def replace(store: Store, job_id: str, read: bytes, document: bytes, status: str) -> bool:
    """Writes a job's JSON if it still is as it was read."""
    return await store.call("replace", (), (job_id, read, document, status)) == 1


async def sweep_step(
    store: Store, queues: Sequence[QueueScripts], cursor: str, count: int
) -> tuple[str, list[str]]:
    """One step of the janitor's walk: next cursor, and ids that are in no structure."""
    names = [name for q in queues for name in (q.keys.incomplete, q.keys.leases, *q.keys.indexes)]
    args = (cursor, count, f"{keys.JOB_PREFIX}*", *(q.keys.job_prefix for q in queues))
    following, lost = await store.call("janitor", names, args)
    return following.decode(), [text(job_id) for job_id in lost]


def _is_of_one_caller(error: Exception) -> bool:
    """Whether one of several callers has a job that cannot be sent; then none was."""
    return isinstance(error, RequestError)


def _first_answer(what: bytes, rest: Sequence[Any], jobs: int) -> RequestReply:
    if what == b"differs":
        raise RequestError(
            "the idempotency key stands for another request: job, payload, delay, at, priority, key or "
            "unique_for differ; use a new key for a new request"
        )
    began, flags, as_runs = rest
    return RequestReply(True, int.from_bytes(began, "big"), _created(flags, as_runs == 1, jobs))


def _created(flags: bytes, as_runs: bool, jobs: int) -> list[bool]:
    """Of each job whether it was created, from a request's record."""
    if as_runs:
        created = [run % 2 == 0 for run, length in enumerate(flags) for _ in range(length)]
        return created + [True] * (jobs - len(created))
    taken = int.from_bytes(flags, "little")
    return [not taken >> number & 1 for number in range(jobs)]


def _document_args(documents: Sequence[NewDocument]) -> list[str | bytes | int]:
    """Jobs to add as arguments: the width of an entry, and the entries; short ones where no job is special."""
    args: list[str | bytes | int] = [2]
    for new in documents:
        if new.delay_ms >= 0 or new.due_ms >= 0 or new.priority or new.unique_ms or new.again:
            break
        args.append(new.job_id)
        args.append(new.document)
    else:
        return args
    args = [7]
    for new in documents:
        args += (new.job_id, new.document, new.delay_ms, new.due_ms, new.priority, new.unique_ms, int(new.again))
    return args


def _ack_args(acks: Sequence[Ack]) -> list[str | bytes | int]:
    """Acks as arguments: completed jobs of one lease as a group, two arguments a job; then all others."""
    groups: dict[str, list[str | bytes | int]] = {}
    others: list[str | bytes | int] = []
    for ack in acks:
        if ack.kind is AckKind.COMPLETE and not (ack.marked or ack.number or ack.entry) and ack.document:
            try:
                group = groups[ack.token]
            except KeyError:
                group = groups[ack.token] = []
            group.append(ack.job_id)
            group.append(ack.document)
        else:
            others += (ack.job_id, ack.token, ack.kind.value, ack.document, ack.number, ack.entry, int(ack.marked))
    args: list[str | bytes | int] = [len(groups)]
    for token, group in groups.items():
        args += (token, len(group) // 2)
        args += group
    return args + others


def _claimed(reply: Sequence[Any]) -> Claimed:
    reason, wait, due, crash_looping, flat, aborted, crashed, clock, correction = reply
    claimed = Claimed(
        reason.decode(), wait, due, crash_looping, clock, correction, aborted_ids=[text(raw) for raw in aborted]
    )
    counts = {crashed[i]: int(crashed[i + 1]) for i in range(0, len(crashed), 2)}
    for i in range(0, len(flat), 2):
        raw_id = flat[i]
        try:
            claimed.jobs.append((raw_id.decode(), flat[i + 1], counts.get(raw_id, 0) if counts else 0))
        except UnicodeDecodeError:
            claimed.invalid_ids.append((raw_id, flat[i + 1]))
    return claimed


def _retention(settings: QueueSettings) -> tuple[int, int, int, int, int]:
    return (
        settings.keep_completed,
        settings.keep_failed,
        round(settings.keep_min_seconds * 1000),
        HARD_CAP,
        round((settings.keep_age_seconds or 0) * 1000),
    )


def _hash(flat: Sequence[bytes]) -> dict[str, str]:
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}


def _inspected(job_id: str, answer: list[Any]) -> Inspected:
    document, due, lease, place, ended, priority, crash_count, log = answer
    return Inspected(
        job_id,
        document,
        None if due is None else float(due),
        lease.decode() if lease else None,
        place.decode() if place else None,
        None if ended is None else float(ended),
        int(priority or 0),
        int(crash_count or 0),
        log,
    )


async def see_alert(store: Store, kind: str, queue: str, now_ms: int, life_ms: int) -> int:
    """Notes that an alert lasts, for this many ms from now; returns since when it has lasted, in ms."""
    return int(await store.call("see_alert", (keys.alert(kind, queue),), (now_ms, life_ms)))


def _life_ms(seconds: float | None) -> int:
    """For Lua: 0 is for good."""
    return round(seconds * 1000) if seconds else 0


def _flat(fields: Mapping[str, str | float]) -> list[str | float]:
    return [part for pair in fields.items() for part in pair]
