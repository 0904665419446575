"""Transfers: one row for each run of an import or export, with which a repeat continues or returns the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.files.tables import Transfer

KEEP = timedelta(days=90)
"""Then a transfer's row is deleted; its files went long before."""
DELETED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class StartedTransfer:
    """A transfer as an earlier delivery of the job left it, or a new one."""

    id: int
    counts: dict[str, int] = field(default_factory=dict)
    cursor: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    """What the job returned, where it was done before."""


async def begin(
    s: AsyncSession, kind: str, job_key: str, job_enqueued_at: datetime, file_id: str | None, now: datetime
) -> StartedTransfer:
    """The transfer of a job: the one that it began, else a new one. Deletes some that are older than `KEEP`.

    A job that a person retries counts as added again: it takes over what it had not finished.
    """
    await _delete_old(s, now - KEEP)
    of_key = (Transfer.job_key == job_key, Transfer.kind == kind)
    row = await s.scalar(select(Transfer).where(*of_key, Transfer.job_enqueued_at == job_enqueued_at))
    if row is None:
        unfinished = select(Transfer).where(*of_key, Transfer.finished_at.is_(None))
        row = await s.scalar(unfinished.order_by(Transfer.id.desc()).limit(1))
    if row is None:
        row = Transfer(kind=kind, job_key=job_key, counts={}, cursor={}, created_at=now)
        s.add(row)
    row.job_enqueued_at, row.file_id = job_enqueued_at, row.file_id or file_id
    await s.flush()
    return StartedTransfer(row.id, dict(row.counts), dict(row.cursor), row.result)


async def advance(s: AsyncSession, transfer_id: int, counts: Mapping[str, int], cursor: Mapping[str, Any]) -> None:
    """Writes down how far it is: in the transaction that does the work, so that the two never differ."""
    changed = {"counts": dict(counts), "cursor": dict(cursor)}
    await s.execute(update(Transfer).where(Transfer.id == transfer_id).values(**changed))


async def finish(
    s: AsyncSession,
    transfer_id: int,
    *,
    counts: Mapping[str, int],
    result: Mapping[str, Any],
    now: datetime,
    file_id: str | None = None,
    report_id: str | None = None,
) -> None:
    """Marks a transfer as done, with the result that a repeat of its job returns."""
    changed: dict[str, Any] = {"counts": dict(counts), "result": dict(result), "cursor": {}, "finished_at": now}
    changed |= {"file_id": file_id} if file_id else {}
    changed |= {"report_id": report_id} if report_id else {}
    await s.execute(update(Transfer).where(Transfer.id == transfer_id).values(**changed))


async def _delete_old(s: AsyncSession, before: datetime) -> None:
    old = select(Transfer.id).where(Transfer.created_at < before).limit(DELETED_AT_ONCE)
    await s.execute(delete(Transfer).where(Transfer.id.in_(old)))
