"""What the store knows about schedules, and their two scripts as typed functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.replies import NewDocument, text

FURTHEST_AHEAD_MS = 600_000
"""A position that lies further in the future is of a clock that was wrong. Below that the schedule waits, so that
a clock that is set back a little runs nothing twice."""
FORGOTTEN_AFTER_MS = 400 * 86_400_000
"""What is known of a schedule, its pause too, outlives its last daemon by this much."""


class Claim(StrEnum):
    """What became of a claim."""

    CLAIMED = "claimed"
    PASSED_OVER = "passed_over"
    TAKEN = "taken"
    """There is, or was, a job for that time."""
    EARLY = "early"
    OTHER = "other"
    """Another daemon was first, or the schedule is paused."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which instant a schedule's due times are dealt with; both instants are epoch ms."""

    now_ms: int
    """By the store's clock."""
    position_ms: int
    """What came due until then is dealt with."""
    paused: bool
    clock_went_back: bool


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """What is kept of a schedule."""

    paused_at: float | None = None
    """Epoch seconds."""
    paused_by: str | None = None
    paused_reason: str | None = None
    due_at: float | None = None
    """The time that the last run was due; None where a person asked for it. Epoch seconds."""
    ran_at: float | None = None
    queue: str | None = None
    key: str | None = None


async def position(store: Store, name: str, times: str = "") -> Position:
    """Where a schedule stands; with `times`, its times as text, it begins now where they are others."""
    args = (times, FURTHEST_AHEAD_MS, FORGOTTEN_AFTER_MS)
    now, position_ms, paused, back = await store.call("schedule_position", (keys.schedule(name),), args)
    return Position(now, position_ms, paused == 1, back == 1)


async def claim(
    store: Store, name: str, queue: QueueKeys, seen_ms: int, due_ms: int, job: NewDocument | None
) -> tuple[Claim, int]:
    """Claims a due time and adds its job, or with None passes it over; also gives the store's time in ms."""
    names = (keys.schedule(name), queue.queued, queue.incomplete, queue.leases)
    key = queue.key_of(job.job_id) if job else ""
    args = (
        *(seen_ms, due_ms, queue.name, key, job.job_id if job else "", job.document if job else b""),
        *(queue.unique_prefix + key, job.unique_ms if job else 0),
    )
    what, now = await store.call("schedule_claim", names, args)
    return Claim(what.decode()), now


async def stored_schedules(store: Store, names: Sequence[str]) -> list[ScheduleRecord]:
    """What is kept of some schedules."""
    return [_record(await store.command("HGETALL", keys.schedule(name))) for name in names]


async def note_run(store: Store, name: str, queue: str, key: str) -> None:
    """Notes a run that a person asked for, now."""
    await store.call("schedule_note", (keys.schedule(name),), (FORGOTTEN_AFTER_MS, queue, key))


async def pause(store: Store, name: str, by: str | None, reason: str | None) -> None:
    """Pauses a schedule from now."""
    await store.call("schedule_pause", (keys.schedule(name),), (FORGOTTEN_AFTER_MS, by or "", reason or ""))


async def resume(store: Store, name: str) -> None:
    """Lets a paused schedule go on; what came due in the pause is not caught up."""
    await store.call("schedule_resume", (keys.schedule(name),))


def _record(flat: Sequence[bytes]) -> ScheduleRecord:
    fields = {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}
    return ScheduleRecord(
        paused_at=_seconds(fields.get("paused_at")),
        paused_by=fields.get("paused_by") or None,
        paused_reason=fields.get("paused_reason") or None,
        due_at=_seconds(fields.get("due")),
        ran_at=_seconds(fields.get("ran_at")),
        queue=fields.get("queue"),
        key=fields.get("key"),
    )


def _seconds(ms: str | None) -> float | None:
    return int(ms) / 1000 if ms else None
