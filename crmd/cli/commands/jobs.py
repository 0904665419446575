"""Commands that show jobs: `crmd jobs` and `crmd job`."""

from __future__ import annotations

import time

import click

from crmd.cli.kit.base import Command, Globals, complain, pass_globals, print_json
from crmd.cli.kit.output import NOTHING, as_json, clean, duration, moment, relative, shorten, show, table
from crmd.cli.kit.session import Session, in_session
from crmd.engine.admin.views import JobView, State
from crmd.errors import ExitCode
from crmd.telemetry.redact import redact

PAGE_JOBS = 200
"""Jobs asked for in one trip."""

DETAIL_LENGTH = 100
"""Characters of an error or payload that a list shows."""

StateOption = click.Choice([state.value for state in State])
QUARANTINED = "quarantined"


@click.command(cls=Command)
@click.argument("queue")
@click.option(
    "--state",
    type=click.Choice([*StateOption.choices, QUARANTINED]),
    metavar="STATE",
    help=f"Only jobs in this state: {', '.join(StateOption.choices)}; {QUARANTINED}: entries that cannot be read.",
)
@click.option("--search", metavar="T", help="Only jobs whose key, name, payload or error contains this text.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
@pass_globals
def jobs(options: Globals, queue: str, state: str | None, search: str | None, limit: int) -> int:
    """List the jobs of QUEUE."""

    if state == QUARANTINED:
        return in_session(options, lambda session: _quarantined(session, options, queue))

    async def work(session: Session) -> int:
        found, more = await _find(session, queue, State(state) if state else None, search, limit)
        if options.json:
            print_json({"jobs": [view.to_json() for view in found], "more": more})
            return ExitCode.OK
        show(table(("key", "job", "state", "when", "attempt", "detail"), (_row(view.masked()) for view in found)))
        if more:
            complain(
                f"there are more than these {limit}; see them with --limit, or narrow with --state or --search"
            )
        return ExitCode.OK

    return in_session(options, work)


@click.command(cls=Command)
@click.argument("queue")
@click.argument("key")
@pass_globals
def job(options: Globals, queue: str, key: str) -> int:
    """Show everything about one job."""

    async def work(session: Session) -> int:
        view = await session.admin.inspector.job(queue, key)
        if options.json:
            print_json(view.to_json())
        else:
            _show_job(view.masked())
        return ExitCode.OK

    return in_session(options, work)


async def _quarantined(session: Session, options: Globals, queue: str) -> int:
    found = await session.admin.inspector.quarantined(queue)
    if options.json:
        print_json({"entries": [entry.to_json() for entry in found]})
        return ExitCode.OK
    rows = [
        (relative(entry.at), entry.id, entry.reason, shorten(clean(redact(entry.raw)), DETAIL_LENGTH))
        for entry in found
    ]
    show(table(("when", "id", "reason", "content"), rows))
    return ExitCode.OK


async def _find(
    session: Session, queue: str, state: State | None, search: str | None, limit: int
) -> tuple[list[JobView], bool]:
    found: list[JobView] = []
    cursor: str | None = None
    while True:
        wanted = min(PAGE_JOBS, limit - len(found))
        page = await session.admin.inspector.jobs(queue, state, search, cursor, wanted)
        found.extend(page.jobs)
        cursor = page.cursor
        if cursor is None or len(found) >= limit:
            return found[:limit], cursor is not None


def _row(view: JobView) -> tuple[object, ...]:
    return (
        view.key,
        view.job,
        view.state,
        relative(_when(view)),
        f"{view.attempt}/{view.attempts}",
        shorten(clean(_detail(view)), DETAIL_LENGTH),
    )


def _when(view: JobView) -> float | None:
    """The instant that tells most about a job in its state."""
    if view.state is State.DELAYED:
        return view.run_at
    if view.state is State.ACTIVE:
        return view.started_at
    return view.finished_at if view.state.finished else view.enqueued_at


def _detail(view: JobView) -> str:
    if view.error:
        return view.error
    if view.state is State.ACTIVE and view.progress:
        return f"{view.progress:.0%} done"
    return as_json(view.payload)


def _show_job(view: JobView) -> None:
    facts = {
        "queue": view.queue,
        "job": view.job,
        "key": view.key,
        "state": view.state,
        "attempt": f"{view.attempt} of {view.attempts}",
        "delivery": view.delivery or NOTHING,
        "priority": view.priority or "normal",
        "progress": f"{view.progress:.0%}" if view.progress else NOTHING,
        "enqueued": moment(view.enqueued_at),
        "runs at": moment(view.run_at),
        "started": moment(view.started_at),
        "finished": moment(view.finished_at),
        "took": _took(view),
        "error": view.error or NOTHING,
        "payload": as_json(view.payload),
        "result": NOTHING if view.result is None else as_json(view.result),
    }
    for name, value in facts.items():
        if value != NOTHING:
            click.echo(f"{name:<10}{clean(str(value))}")
    if view.timeline:
        click.echo()
        rows = [(moment(e.at), e.event, e.attempt, e.delivery, e.detail) for e in view.timeline]
        show(table(("at", "event", "attempt", "delivery", "detail"), rows))


def _took(view: JobView) -> str:
    if not view.started_at:
        return NOTHING
    if view.state is State.ACTIVE:
        return f"{duration(time.time() - view.started_at)} so far"
    return duration(view.finished_at - view.started_at) if view.finished_at else NOTHING
