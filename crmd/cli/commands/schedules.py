"""`crmd schedules`: lists schedules with their next and last runs; runs, pauses and resumes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crmd.cli.commands.queues import person
from crmd.cli.kit.base import Globals, ListingGroup, complain, pass_globals, print_json
from crmd.cli.kit.output import NOTHING, relative, show, table
from crmd.cli.kit.session import Session, in_session
from crmd.errors import ExitCode

if TYPE_CHECKING:
    from crmd.engine.admin.schedules import ScheduleView


@click.group(cls=ListingGroup, invoke_without_command=True)
@pass_globals
@click.pass_context
def schedules(context: click.Context, options: Globals) -> int:
    """List the schedules with their next and last runs."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    return in_session(options, lambda session: _list(session, options))


@schedules.command
@click.argument("name")
@pass_globals
def run(options: Globals, name: str) -> int:
    """Add the job of NAME now, in addition to its own times."""

    async def work(session: Session) -> int:
        added = await session.admin.schedules.run(name)
        view = await session.admin.schedules.get(name)
        if options.json:
            print_json({"schedule": name, "queue": view.queue, "key": added.key})
        else:
            click.echo(added.key)
        return ExitCode.OK

    return in_session(options, work)


@schedules.command
@click.argument("name")
@click.option("--reason", metavar="R", help="Why; shown wherever the schedule is.")
@pass_globals
def pause(options: Globals, name: str, reason: str | None) -> int:
    """Add no jobs of NAME on any daemon until it is resumed."""

    async def work(session: Session) -> int:
        await session.admin.schedules.pause(name, by=person(), reason=reason)
        return await _done(session, options, name, "paused")

    return in_session(options, work)


@schedules.command
@click.argument("name")
@pass_globals
def resume(options: Globals, name: str) -> int:
    """Resume NAME; what came due meanwhile is not caught up."""

    async def work(session: Session) -> int:
        await session.admin.schedules.resume(name)
        return await _done(session, options, name, "resumed")

    return in_session(options, work)


async def _list(session: Session, options: Globals) -> int:
    views = await session.admin.schedules.all()
    if options.json:
        print_json([view.to_json() for view in views])
    elif views:
        headers = ("schedule", "queue", "job", "when", "next run", "last run", "last job", "")
        show(table(headers, map(_row, views)))
    else:
        complain("there are no schedules; write [schedules.NAME] tables into config.toml")
    return ExitCode.OK


def _row(view: ScheduleView) -> tuple[object, ...]:
    last = f"{view.last_key} ({view.last_state or 'no longer kept'})" if view.last_key else NOTHING
    return (
        view.name,
        view.queue,
        view.job,
        view.times,
        relative(view.next_run_at),
        relative(view.last_run_at),
        last,
        _held_by(view),
    )


def _held_by(view: ScheduleView) -> str:
    if not view.enabled:
        return "switched off"
    if view.paused_at is None:
        return ""
    who = f" by {view.paused_by}" if view.paused_by else ""
    why = f": {view.paused_reason}" if view.paused_reason else ""
    return f"paused {relative(view.paused_at)}{who}{why}"


async def _done(session: Session, options: Globals, name: str, what: str) -> int:
    if options.json:
        print_json((await session.admin.schedules.get(name)).to_json())
    else:
        click.echo(f"{name}: {what}")
    return ExitCode.OK
