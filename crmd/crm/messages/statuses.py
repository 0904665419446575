"""What WhatsApp's webhooks report about outgoing messages, in any order and any number of times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.messages.queries import MAX_ERROR, MESSAGE, OPEN, Status, note_all

WebhookStatus = Literal["sent", "delivered", "read", "failed"]
"""What WhatsApp's webhooks call the statuses of a message."""
_RANKS = {Status.ACCEPTED: 1, Status.SENT: 2, Status.DELIVERED: 3, Status.READ: 4}
"""A status never goes back; those without a rank say nothing of a message's way."""
_BY_JOB = (Status.SENDING, Status.UNKNOWN, Status.RETRYING, Status.FAILED)
"""Which of a job's messages a status is about that names the job only: the likeliest first."""


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One status of a webhook."""

    wamid: str
    status: WebhookStatus
    at: datetime
    job_key: str | None = None
    """`biz_opaque_callback_data`."""
    error_code: str | None = None
    error: str | None = None
    recipient: str | None = None
    """The number that WhatsApp has for the recipient, E.164."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a status was about, and what it changed."""

    message_id: int
    phone: str
    job_queue: str | None
    job_key: str | None
    job_enqueued_at: datetime | None
    before: Status
    after: Status

    @property
    def settled(self) -> bool:
        """Whether it told what became of a message of which nobody knew."""
        return self.before is Status.UNKNOWN and self.after is not Status.UNKNOWN


@dataclass(slots=True)
class _Row:
    """A message's row while statuses are applied to it."""

    id: int
    wamid: str | None
    phone: str
    job_queue: str | None
    job_key: str | None
    job_enqueued_at: datetime | None
    status: str
    status_at: datetime
    error_code: str | None
    error: str | None
    changed: bool = False
    first: bool = False
    """Whether this is the first that WhatsApp says of it."""


_WRITTEN = ("wamid", "status", "status_at", "error_code", "error")
_COLUMNS = [
    MESSAGE.c[name] for name in ("id", "wamid", "phone", "job_queue", "job_key", "job_enqueued_at", *_WRITTEN[1:])
]
_WRITING = (
    update(MESSAGE)
    .where(MESSAGE.c.id == bindparam("its_id"))
    .values({name: bindparam(f"its_{name}", type_=MESSAGE.c[name].type) for name in _WRITTEN})
)


async def apply_status(s: AsyncSession, update_: StatusUpdate) -> bool:
    """Applies one status; whether it changed the message's status."""
    [applied] = await apply_statuses(s, [update_])
    return applied is not None and applied.before is not applied.after


async def apply_statuses(s: AsyncSession, updates: Sequence[StatusUpdate]) -> list[Applied | None]:
    """Applies statuses, and adds each to its message's history. None: the message is none of ours.

    A message is found by its wamid, else by the key of its job, where its wamid is not known yet. `sent`,
    `delivered` and `read` never go back; `failed` is final unless WhatsApp says that the message was delivered.
    """
    rows = await _rows(s, updates)
    results: list[Applied | None] = []
    for update_ in updates:
        row = rows.get(update_.wamid)
        results.append(_apply(row, update_) if row else None)
    changed = {row.id: row for row in rows.values() if row.changed}
    if changed:
        connection = await s.connection()
        written = [
            {"its_id": row.id, **{f"its_{name}": getattr(row, name) for name in _WRITTEN}}
            for row in changed.values()
        ]
        await connection.execute(_WRITING, written)
    await note_all(
        s,
        [
            (applied.message_id, Status(update_.status), update_.at, update_.error_code)
            for applied, update_ in zip(results, updates, strict=True)
            if applied
        ],
    )
    return results


async def _rows(s: AsyncSession, updates: Sequence[StatusUpdate]) -> dict[str, _Row]:
    """The messages by their wamids, locked."""
    rows = await _by_wamid(s, {one.wamid for one in updates})
    missing = {one.wamid: one.job_key for one in updates if one.wamid not in rows and one.job_key}
    if not missing:
        return rows
    candidates = await _by_job(s, set(missing.values()))
    for wamid, job_key in missing.items():
        likely = candidates.get(job_key or "")
        if likely:
            row = likely.pop(0)
            row.wamid, row.changed, row.first = wamid, True, True
            rows[wamid] = row
    # Another transaction may have given a message its wamid after we looked for it.
    late = missing.keys() - rows.keys()
    return {**rows, **await _by_wamid(s, late)} if late else rows


async def _by_wamid(s: AsyncSession, wamids: Iterable[str]) -> dict[str, _Row]:
    query = select(*_COLUMNS).where(MESSAGE.c.wamid.in_(wamids), MESSAGE.c.direction == "out")
    found = await s.execute(query.order_by(MESSAGE.c.id).with_for_update())
    return {row.wamid: _Row(*row) for row in found}


async def _by_job(s: AsyncSession, keys: set[Any]) -> dict[str, list[_Row]]:
    """Messages whose wamid is not known, by their jobs' keys: the likeliest first, the newest among equals."""
    query = select(*_COLUMNS).where(
        MESSAGE.c.job_key.in_(keys),
        MESSAGE.c.wamid.is_(None),
        MESSAGE.c.status.in_([one.value for one in _BY_JOB]),
    )
    found = [_Row(*row) for row in await s.execute(query.order_by(MESSAGE.c.id).with_for_update())]
    by_key: dict[str, list[_Row]] = {}
    for row in sorted(found, key=lambda row: (_BY_JOB.index(Status(row.status)), -row.id)):
        by_key.setdefault(row.job_key or "", []).append(row)
    return by_key


def _apply(row: _Row, update_: StatusUpdate) -> Applied:
    before, status = Status(row.status), Status(update_.status)
    if _moves(row, before, status):
        failed = status is Status.FAILED
        row.status, row.status_at, row.changed = status.value, update_.at, True
        row.error_code = update_.error_code if failed else None
        row.error = (update_.error or "")[:MAX_ERROR] or None if failed else None
    row.first, after = False, Status(row.status)
    return Applied(row.id, row.phone, row.job_queue, row.job_key, row.job_enqueued_at, before, after)


def _moves(row: _Row, before: Status, status: Status) -> bool:
    if before in OPEN:
        return True
    if before is Status.FAILED:
        # A person's word, or a failure before WhatsApp took the message, does not stand against WhatsApp's.
        return row.first or (status is not Status.FAILED and _RANKS[status] >= _RANKS[Status.DELIVERED])
    if status is Status.FAILED:
        return _RANKS[before] < _RANKS[Status.DELIVERED]
    return _RANKS[status] > _RANKS[before]
