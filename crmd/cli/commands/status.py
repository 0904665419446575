"""Commands that show the present: `crmd status` and `crmd workers`."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Command, Globals, complain, pass_globals, print_json
from crmd.cli.kit.output import NOTHING, duration, relative, show, table, to_text
from crmd.cli.kit.session import Session, connect, in_session, run_async
from crmd.engine.admin.views import DaemonInfo, QueueCounts, instant
from crmd.errors import ExitCode, StoreUnavailable

if TYPE_CHECKING:
    from rich.table import Table

WATCH_INTERVAL_SECONDS = 1.0

_NUMBERS = ("waiting", "active", "delayed", "failed", "completed", "left", "oldest", "pid", "jobs")


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@pass_globals
def status(options: Globals, watch: bool) -> int:
    """Show the live daemons and what each queue holds."""
    if watch:
        return run_async(_watch(options))
    return in_session(options, lambda session: _status(session, options))


@click.command(cls=Command)
@pass_globals
def workers(options: Globals) -> int:
    """List the live daemons."""

    async def work(session: Session) -> int:
        daemons = await session.admin.inspector.daemons()
        if options.json:
            print_json([daemon.to_json() for daemon in daemons])
        elif daemons:
            show(_daemon_table(daemons))
        else:
            complain("no daemon is alive; start one with `crmd run`")
        return ExitCode.OK

    return in_session(options, work)


async def _status(session: Session, options: Globals) -> int:
    counts, daemons = await _read(session)
    if options.json:
        print_json(_as_json(session, counts, daemons))
    else:
        show(_daemon_table(daemons)) if daemons else click.echo("no daemon is alive; jobs wait until one is")
        click.echo()
        show(_queue_table(session, counts))
    return ExitCode.OK


async def _read(session: Session) -> tuple[list[QueueCounts], list[DaemonInfo]]:
    counts, daemons = await asyncio.gather(session.admin.inspector.all_counts(), session.admin.inspector.daemons())
    return list(counts.values()), daemons


async def _watch(options: Globals) -> int:
    while True:
        try:
            async with connect(options) as session:
                while True:
                    await _watch_once(session, options)
                    await asyncio.sleep(WATCH_INTERVAL_SECONDS)
        except StoreUnavailable as error:
            complain(str(error))
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)


async def _watch_once(session: Session, options: Globals) -> None:
    counts, daemons = await _read(session)
    if options.json:
        print_json(_as_json(session, counts, daemons))
        sys.stdout.flush()
        return
    click.clear()
    click.echo(f"{time.strftime('%H:%M:%S')}  Ctrl-C ends\n")
    click.echo(to_text(_daemon_table(daemons)) if daemons else "no daemon is alive; jobs wait until one is\n")
    click.echo(to_text(_queue_table(session, counts)), nl=False)


def _as_json(session: Session, counts: list[QueueCounts], daemons: list[DaemonInfo]) -> dict[str, object]:
    held = session.unconfigured
    return {
        "daemons": [daemon.to_json() for daemon in daemons],
        "queues": {count.name: {**counts_json(count), "held": held.get(count.name)} for count in counts},
    }


def counts_json(count: QueueCounts) -> dict[str, object]:
    """A queue's counts as `--json` shows them, with the names that HTTP uses."""
    states = ("waiting", "active", "delayed", "completed", "failed", "cancelled", "unknown")
    return {
        **{state: getattr(count, state) for state in states},
        "paused": count.paused,
        "pause": count.pause.to_json() if count.pause else None,
        "limit": {
            "rate": count.rate_limit,
            "left": count.rate_left,
            "override_until": instant(count.rate_override_until),
            "blocked_until": instant(count.blocked_until),
        },
        "oldest_waiting_seconds": count.oldest_waiting_seconds,
        "last_start_at": instant(count.last_start_at),
    }


def _queue_table(session: Session, counts: list[QueueCounts]) -> Table:
    headers = ["queue", "waiting", "active", "delayed", "failed", "completed", "rate", "left", "oldest"]
    rows = (_queue_row(count, session.unconfigured.get(count.name)) for count in counts)
    return table((*headers, "last start", ""), rows, right=_NUMBERS)


def _queue_row(count: QueueCounts, unconfigured: str | None) -> tuple[object, ...]:
    return (
        count.name,
        count.waiting,
        count.active,
        count.delayed,
        count.failed,
        count.completed,
        count.rate_limit,
        count.rate_left,
        duration(count.oldest_waiting_seconds),
        relative(count.last_start_at),
        _held_by(count, unconfigured),
    )


def _held_by(count: QueueCounts, unconfigured: str | None) -> str:
    parts = [f"its jobs wait: {unconfigured}"] if unconfigured else []
    if count.pause is not None:
        who = f" by {count.pause.by}" if count.pause.by else ""
        why = f": {count.pause.reason}" if count.pause.reason else ""
        until = f", resumes {relative(count.pause.until)}" if count.pause.until else ""
        parts.append(f"paused {relative(count.pause.at)}{who}{why}{until}")
    if count.blocked_until and count.blocked_until > time.time():
        parts.append(f"held by an outside limit, goes on {relative(count.blocked_until)}")
    if count.rate_override_until:
        parts.append(f"configured rate again {relative(count.rate_override_until)}")
    return "; ".join(parts)


def _daemon_table(daemons: list[DaemonInfo]) -> Table:
    rows = [
        (
            daemon.host, daemon.pid, daemon.state, daemon.active, daemon.version, relative(daemon.started_at),
            relative(daemon.seen_at), ", ".join(daemon.queues) or NOTHING,
        )
        for daemon in daemons
    ]  # fmt: skip
    return table(("host", "pid", "state", "jobs", "version", "started", "seen", "queues"), rows, right=_NUMBERS)
