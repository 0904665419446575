"""`crmd campaigns`: lists, shows, pauses, resumes and cancels campaigns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from crmd.cli.kit.base import Globals, ListingGroup, complain, pass_globals, print_json
from crmd.cli.kit.output import NOTHING, as_json, clean, show, table
from crmd.cli.kit.session import connect, run_async
from crmd.crm.session import opened_database
from crmd.errors import ExitCode

if TYPE_CHECKING:
    from crmd.crm.campaigns.service import CampaignService

STATUSES = ("running", "paused", "cancelled", "stopped", "done")
MOST = 500

_ID = click.argument("campaign_id", metavar="ID", type=click.IntRange(min=1))
_REASON = click.option("--reason", metavar="R", help="Why; shown wherever the campaign is.")


@click.group(cls=ListingGroup, invoke_without_command=True)
@pass_globals
@click.pass_context
def campaigns(context: click.Context, options: Globals) -> int:
    """List the campaigns, the newest first."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    return run_async(_list(options, None, MOST))


@campaigns.command("list")
@click.option(
    "--status", type=click.Choice(STATUSES), metavar="STATUS", help=f"Only these: {', '.join(STATUSES)}."
)
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="At most this many.")
@pass_globals
def list_(options: Globals, status: str | None, limit: int) -> int:
    """List the campaigns, the newest first."""
    return run_async(_list(options, status, limit))


@campaigns.command("show")
@_ID
@pass_globals
def show_(options: Globals, campaign_id: int) -> int:
    """Show campaign ID: its recipients and its messages by status."""
    return run_async(_show(options, campaign_id))


@campaigns.command
@_ID
@_REASON
@pass_globals
def pause(options: Globals, campaign_id: int, reason: str | None) -> int:
    """Start no more messages of campaign ID until it is resumed."""
    return run_async(_act(options, campaign_id, "paused", lambda service: service.pause(campaign_id, reason)))


@campaigns.command
@_ID
@pass_globals
def resume(options: Globals, campaign_id: int) -> int:
    """Continue campaign ID after a pause."""
    return run_async(_act(options, campaign_id, "resumed", lambda service: service.resume(campaign_id)))


@campaigns.command
@_ID
@_REASON
@pass_globals
def cancel(options: Globals, campaign_id: int, reason: str | None) -> int:
    """End campaign ID for good; its remaining messages are not sent."""
    return run_async(_act(options, campaign_id, "cancelled", lambda service: service.cancel(campaign_id, reason)))


async def _list(options: Globals, status: str | None, limit: int) -> int:
    from crmd.crm.campaigns import service

    async with opened_database(options) as database:
        found = await service.list_campaigns(database, None, limit, status)
    if options.json:
        print_json([service.summary(campaign) for campaign in found])
    elif found:
        headers = ("id", "campaign", "status", "recipients", "created", "")
        show(table(headers, map(_row, map(service.summary, found)), right=("id", "recipients")))
    else:
        complain("there are no campaigns; add a job run_campaign to the queue campaign")
    return ExitCode.OK


async def _show(options: Globals, campaign_id: int) -> int:
    from crmd.crm.campaigns import service

    async with opened_database(options) as database:
        found = await service.details(database, campaign_id)
    if options.json:
        print_json(found)
        return ExitCode.OK
    facts = {
        "id": found["id"],
        "campaign": found["name"],
        "status": found["status"],
        "reason": found["reason"],
        "progress": f"{found['progress']:.0%} of {_count(found['total'])} recipients",
        "job": found["job"] and found["job"]["key"],
        "created": found["created_at"],
        "finished": found["finished_at"],
        "recipients": _counts(found["recipients"]),
        "messages": _counts(found["messages"]),
        "definition": as_json(found["definition"]),
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<12}{clean(str(value))}")
    if found["skipped"]:
        click.echo()
        show(table(("skipped because", "recipients"), found["skipped"].items(), right=("recipients",)))
    return ExitCode.OK


async def _act(
    options: Globals, campaign_id: int, done: str, act: Callable[[CampaignService], Awaitable[None]]
) -> int:
    from crmd.crm.campaigns.service import CampaignService, details

    async with opened_database(options) as database, connect(options) as session:
        await act(CampaignService(database, session.admin.control))
        found = await details(database, campaign_id)
    if options.json:
        print_json(found)
    else:
        click.echo(f"campaign {campaign_id} ({clean(found['name'])}): {done}")
    return ExitCode.OK


def _row(campaign: dict[str, Any]) -> tuple[object, ...]:
    total, reason = _count(campaign["total"]), campaign["reason"] or ""
    return campaign["id"], campaign["name"], campaign["status"], total, campaign["created_at"], reason


def _count(total: int | None) -> str:
    return NOTHING if total is None else f"{total:,}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
