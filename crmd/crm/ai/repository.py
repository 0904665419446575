"""What the answers of language models cost."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.ai.tables import AiUsage
from crmd.crm.database.upsert import insert_into

KEEP = timedelta(days=400)
"""A year can be held against the year before."""
_REMOVE_BATCH = 2


async def record(
    s: AsyncSession,
    *,
    job_key: str,
    job: str,
    model: str,
    input_tokens: int,
    output_tokens: int,
    answered_at: datetime,
) -> None:
    """Keeps one answer's tokens, the same one once, and removes what is older than KEEP."""
    values = {
        "job_key": job_key,
        "job": job,
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "answered_at": answered_at,
    }
    await s.execute(insert_into(s, AiUsage).values(values).on_conflict_do_nothing())
    # Two for each that comes: the table stops growing, and no statement is long.
    old = select(AiUsage.id).where(AiUsage.answered_at < answered_at - KEEP).order_by(AiUsage.answered_at)
    await s.execute(delete(AiUsage).where(AiUsage.id.in_(old.limit(_REMOVE_BATCH).scalar_subquery())))
