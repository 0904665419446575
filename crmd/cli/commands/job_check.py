"""Checks, before a job is added, that its queue takes it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from crmd.cli.kit.session import Session
from crmd.engine.admin.views import NewJob
from crmd.errors import UnknownJob

if TYPE_CHECKING:
    from crmd.jobs import Catalog


def check_job(catalog: Catalog, known: set[str] | None, session: Session, queue: str, new: NewJob) -> str | None:
    """Checks a job's name and, where crmd ships the job, its payload; raises UnknownJob and InvalidPayload.

    `known` are the names that the live daemons know, None where nobody says: then the result is a warning, unless
    the queue has handlers of its own.
    """
    spec = catalog.find(queue, new.job)
    if spec is not None:
        spec.validate(new.payload)
        return None
    if known is None and session.admin.registry.queues[queue].handlers:
        return None
    names = sorted(known) if known is not None else catalog.names(queue)
    if known is not None and new.job in known:
        return None
    near = difflib.get_close_matches(new.job, names, n=1)
    if known is not None:
        hint = f"did you mean {near[0]}?" if near else f"its daemons know: {', '.join(names) or 'none'}"
        raise UnknownJob(f"queue {queue} has no job {new.job!r}; {hint}")
    hint = f"did you mean {near[0]}?" if near else f"crmd ships: {', '.join(names) or 'none'}"
    return (
        f"queue {queue} has no job {new.job!r} that this command knows ({hint}); it waits for a daemon that does"
    )
