"""A job that says in which thread it was imported."""

from __future__ import annotations

import threading

from crmd import JobContext, job

IMPORTED_BY = threading.current_thread()


@job(queue="email")
async def late_job(ctx: JobContext, payload: dict[str, object]) -> None:
    raise NotImplementedError
