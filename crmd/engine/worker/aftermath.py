"""What a worker does about a job besides running it: slow-downs, pauses, reasons, and entries that are no jobs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from crmd.engine.codec import Unreadable, decode
from crmd.engine.store.limits import limit_keys
from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.worker.ending import Ending, returned
from crmd.engine.worker.execution import Run
from crmd.engine.worker.outcomes import is_written, quarantine_entry
from crmd.errors import StoreError

if TYPE_CHECKING:
    from crmd.engine.worker.worker import CrmWorker


async def why_aborted(worker: CrmWorker, run: Run) -> str | None:
    """The reason that whoever aborted the job wrote into it."""
    data = await _stored(worker, run)
    return _error(data) if data.get("status") in ("aborting", "aborted") else None


async def taken_away(worker: CrmWorker, run: Run, ending: Ending) -> Ending:
    """How a job ends that a client took out of the queue while it ran: as its JSON says.

    That is cancelled after an abort, and what a SAQ client's finish() wrote after one of those.
    """
    data = await _stored(worker, run)
    match data.get("status"):
        case "complete":
            return returned(data.get("result"))
        case "failed":
            return Ending(AckKind.FAILED, "failed", error=_error(data) or "failed: a SAQ client finished it so")
        case "aborting" | "aborted":
            return replace(ending, error=_error(data) or ending.error)
        case _:
            return ending


async def _stored(worker: CrmWorker, run: Run) -> dict[str, Any]:
    try:
        return decode(await worker.engine.store.command("GET", run.job_id) or b"null")
    except (StoreError, Unreadable, asyncio.CancelledError):
        return {}


def _error(data: dict[str, Any]) -> str | None:
    error = data.get("error")
    return error if isinstance(error, str) else None


async def act_on_queue(worker: CrmWorker, run: Run, ending: Ending) -> None:
    """Pauses or slows the queue, or the job's limit keys, as the handler asked."""
    try:
        if ending.pause is not None:
            await worker.engine.control.pause(worker.settings.name, reason=ending.pause, by="crmd")
        if ending.slow_down is not None:
            after, scope = ending.slow_down
            held = limit_keys(worker.settings, run.kwargs) if scope == "key" else ()
            await worker.scripts.slow_down(after, held)
    except (StoreError, asyncio.CancelledError) as error:
        worker.report(f"could not slow down or pause: {error}")


async def settle_doubts(worker: CrmWorker, outcomes: list[Ack]) -> None:
    """Finds out which outcomes the store refused because it had them: the answer to a first writing was lost."""
    with contextlib.suppress(StoreError):
        found = await worker.scripts.inspect([outcome.job_id for outcome in outcomes], timeline=True)
        ours = [outcome for outcome, one in zip(outcomes, found, strict=True) if is_written(outcome, one)]
        worker.tell(ours)
        worker.tell_stale(outcome for outcome in outcomes if outcome not in ours)


async def finalise(worker: CrmWorker, ghosts: list[str]) -> None:
    """Ends jobs that an abort took out of the queue's books."""
    with contextlib.suppress(StoreError):  # the janitor meets them again
        for job_id in ghosts:
            await worker.engine.control.finalise_abort(worker.settings.name, job_id)


async def quarantine(worker: CrmWorker, token: str, job_id: str | bytes, document: bytes, reason: str) -> None:
    """Sets an entry aside that cannot be read."""
    shown = job_id if isinstance(job_id, str) else job_id.decode("utf-8", "backslashreplace")
    entry = quarantine_entry(shown, document, reason, worker.engine.now())
    with contextlib.suppress(StoreError):  # the lease stays, and is given back by reconciling
        if await worker.scripts.quarantine(job_id, token, orjson.dumps(entry)):
            key = worker.scripts.keys.key_of(shown)
            worker.engine.events.emit("job.quarantined", queue=worker.settings.name, key=key, reason=reason)
