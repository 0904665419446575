"""Three jobs: an async one, a sync one, and a plain SAQ function."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from crmd import JobContext, job


class Greeting(BaseModel):
    """Payload of `greet`."""

    name: str = Field(min_length=1)


@job(queue="notification", payload=Greeting)
async def greet(ctx: JobContext, payload: Greeting) -> str:
    """Greets."""
    ctx.log.info("greeting %s", payload.name)
    return f"hello {payload.name}"


class Report(BaseModel):
    """Payload of `monthly_report`."""

    month: str = Field(pattern=r"^\d{4}-\d{2}$")
    numbers: list[int]


@job(queue="export", payload=Report)
def monthly_report(ctx: JobContext, payload: Report) -> dict[str, Any]:
    """Adds numbers up, in a thread as it is sync, and has somebody told."""
    total = 0
    for done, number in enumerate(payload.numbers, 1):
        total += number
        ctx.blocking.progress(done / len(payload.numbers))
    told = ctx.blocking.enqueue(
        "notification",
        "notify",
        {"message": f"report of {payload.month}: {total}"},
        key=f"report-{payload.month}",
    )
    return {"total": total, "told": told}


async def ping(ctx: dict[str, Any], *, host: str) -> str:
    """A plain SAQ function: its context is a dict, its payload keyword arguments."""
    return f"{host} pinged by {ctx['job'].key}"
