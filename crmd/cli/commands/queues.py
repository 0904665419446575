"""Commands that act on whole queues: pause, resume, limit."""

from __future__ import annotations

import getpass
import socket

import click

from crmd.cli.commands.status import counts_json
from crmd.cli.kit.base import Command, Globals, pass_globals, print_json
from crmd.cli.kit.output import duration
from crmd.cli.kit.payload import as_duration
from crmd.cli.kit.session import Session, in_session
from crmd.engine.durations import Rate
from crmd.errors import ExitCode

CONFIGURED = "default"
"""The RATE that takes an override back."""


@click.command(cls=Command)
@click.argument("queues", nargs=-1, metavar="QUEUE...")
@click.option("--all", "everything", is_flag=True, help="All queues.")
@click.option("--reason", metavar="R", help="Why; shown wherever the queue is.")
@click.option("--for", "period", callback=as_duration, metavar="D", help="Resume automatically after this time.")
@pass_globals
def pause(
    options: Globals, queues: tuple[str, ...], everything: bool, reason: str | None, period: float | None
) -> int:
    """Start no more jobs of QUEUE on any daemon; running ones continue."""

    async def work(session: Session) -> int:
        names = _chosen(session, queues, everything)
        for name in names:
            await session.admin.control.pause(name, reason=reason, by=person(), duration=period)
        return await _done(
            session, options, names, "paused" if period is None else f"paused for {duration(period)}"
        )

    return in_session(options, work)


@click.command(cls=Command)
@click.argument("queues", nargs=-1, metavar="QUEUE...")
@click.option("--all", "everything", is_flag=True, help="All queues.")
@pass_globals
def resume(options: Globals, queues: tuple[str, ...], everything: bool) -> int:
    """Start jobs of QUEUE again, after a pause or a slow-down that a service asked for."""

    async def work(session: Session) -> int:
        names = _chosen(session, queues, everything)
        for name in names:
            await session.admin.control.resume(name)
        return await _done(session, options, names, "resumed")

    return in_session(options, work)


@click.command(cls=Command)
@click.argument("queue")
@click.argument("rate")
@click.option(
    "--for", "period", callback=as_duration, metavar="D", help="Return to the configured limit after this time."
)
@pass_globals
def limit(options: Globals, queue: str, rate: str, period: float | None) -> int:
    """Limit QUEUE to RATE, such as 20/min, on all daemons; RATE `default` restores the configured limit."""
    try:
        parsed = None if rate == CONFIGURED else Rate.parse(rate)
    except ValueError as error:
        raise click.UsageError(f'{error}; or "{CONFIGURED}" for the configured limit') from None

    async def work(session: Session) -> int:
        session.require([queue])
        await session.admin.control.limit(queue, parsed, period)
        what = "back to its configured limit" if parsed is None else f"limited to {parsed}"
        return await _done(session, options, [queue], what)

    return in_session(options, work)


def _chosen(session: Session, queues: tuple[str, ...], everything: bool) -> list[str]:
    if bool(queues) == everything:
        raise click.UsageError("name queues, or all of them with --all")
    session.require(queues)
    return list(queues) or list(session.admin.registry.queues)


def person() -> str:
    """Who types, for those who see what was done: `user@host`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


async def _done(session: Session, options: Globals, names: list[str], what: str) -> int:
    if options.json:
        counts = await session.admin.inspector.all_counts()
        print_json({"queues": {name: counts_json(counts[name]) for name in names}})
    else:
        for name in names:
            click.echo(f"{name}: {what}")
    return ExitCode.OK
