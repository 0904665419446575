"""Looks after flows: runs whose jobs were lost go on, and old runs are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.jobs import continuation
from crmd.crm.flows.repository import Position
from crmd.crm.payload import Payload
from crmd.jobs import JobContext, job

LATE = timedelta(minutes=1)
"""A job that is due is given so long to start before its run counts as forgotten."""
BATCH = 500
MAX_BATCHES = 20


class SweepFlows(Payload):
    """Nothing: it is about all flows."""


class Swept(TypedDict):
    """What the sweep found."""

    overdue: int
    """Runs that were to go on; where their jobs are still there nothing was added."""
    removed: int
    """Old runs that were deleted."""


@job(queue="flow", payload=SweepFlows)
async def sweep_flows(ctx: JobContext, payload: SweepFlows) -> Swept:
    """Adds the jobs of runs that are overdue, at most 10,000 a time, and deletes runs that ended long ago."""
    database, now = ctx.get(Database), utc_now()
    overdue = removed = 0
    after: flows.Overdue | None = None
    for _ in range(MAX_BATCHES):
        async with database.reading() as s:
            found = await flows.overdue(s, now - LATE, after, BATCH)
        if found:
            jobs = [continuation(Position(one.run_id, one.count)) for one in found]
            await ctx.enqueue_many("flow", "run_flow", [(payload, {"key": key}) for payload, key in jobs])
            overdue, after = overdue + len(found), found[-1]
        if len(found) < BATCH:
            break
    for _ in range(MAX_BATCHES):
        async with database.transaction() as s:
            gone = await flows.remove_old(s, now, BATCH)
        removed += gone
        if gone < BATCH:
            break
    if overdue:
        ctx.log.info("flow runs were overdue: %d", overdue)
    return Swept(overdue=overdue, removed=removed)
