"""`crmd report`: what happened in the last hours or days, and what happens now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from crmd.cli.kit.base import Command, Globals, pass_globals, print_json
from crmd.cli.kit.session import connect, run_async
from crmd.crm.analytics.report_page import Line, page
from crmd.crm.session import opened_database
from crmd.errors import ExitCode, StoreError

if TYPE_CHECKING:
    from crmd.crm.analytics.repository import Period

LAST = {"day": 7, "hour": 24}
MOST = 1000


@click.command(cls=Command)
@click.option(
    "--period", type=click.Choice(list(LAST)), default="day", show_default=True, help="How long each period is."
)
@click.option(
    "--last", type=click.IntRange(1, MOST), metavar="N", help="How many periods; by default 7 days or 24 hours."
)
@pass_globals
def report(options: Globals, period: str, last: int | None) -> int:
    """Show the latest snapshots, and the current day or hour so far."""
    from crmd.crm.analytics.repository import Period

    lines = run_async(_read(options, Period(period), last or LAST[period]))
    if options.json:
        print_json({"period": period, "lines": [line.to_json() for line in lines]})
    else:
        page(period, lines)
    return ExitCode.OK


async def _read(options: Globals, period: Period, count: int) -> Sequence[Line]:
    from crmd.crm.analytics import repository as snapshots

    async with opened_database(options) as database:
        now = datetime.now(UTC)
        current = period.start_of(now)
        async with database.reading() as s:
            kept = [one for one in await snapshots.last(s, period, count + 1) if one.starts_at < current]
            data = await snapshots.compute(s, current, now)
        data["queues"] = await _queues(options, kept[-1].data if kept else None, now)
    lines = [Line(one.starts_at, False, one.data) for one in kept]
    return [*lines, Line(current, True, data)][-count:]


async def _queues(options: Globals, earlier: Mapping[str, Any] | None, now: datetime) -> Mapping[str, Any] | None:
    """The queues as they are, or None if the store is unavailable; the database has the rest."""
    from crmd.crm.analytics.repository import queue_part

    try:
        async with connect(options) as session:
            return queue_part(await session.admin.inspector.metrics(), earlier, now)
    except StoreError:
        return None
