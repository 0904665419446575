"""`crmd report`: the figures of the last days or hours, and of the current one so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from crmd.cli.kit.base import Command, Globals, pass_globals, print_json
from crmd.cli.kit.session import connect, run_async
from crmd.crm.session import opened_database
from crmd.errors import ExitCode, StoreError

if TYPE_CHECKING:
    from crmd.crm.analytics.repository import Period


import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crmd.cli.kit.output import NOTHING, duration, show, table

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


# How a report looks in a terminal


BARS = "▁▂▃▄▅▆▇█"
ERRORS_SHOWN = 8
Data = Mapping[str, Any]

_OPEN = ("sending", "retrying", "accepted", "sent")
"""Statuses of messages that did not arrive yet."""
_ENDINGS = ("delivered", "read", "failed", "unknown")


@dataclass(frozen=True, slots=True)
class Line:
    """One period of the report."""

    starts_at: datetime
    running: bool
    """Whether it is still under way: then it was computed just now."""
    data: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The period as `--json` shows it."""
        starts_at = self.starts_at.isoformat().replace("+00:00", "Z")
        return {"starts_at": starts_at, "running": self.running, **self.data}


def page(period: str, lines: Sequence[Line]) -> None:
    """Prints the report: a row for each period, a curve for each figure, the queues, the errors."""
    columns = _columns(period, lines)
    show(table(list(columns), zip(*columns.values(), strict=True), right=list(columns)[1:]))
    if len(lines) > 1:
        click.echo()
        show(table(("", "", "least", "most", "now"), _curves(lines), right=("least", "most", "now")))
    if queues := lines[-1].data.get("queues"):
        since = queues["since"]
        click.echo(f"\nqueues since {datetime.fromisoformat(since):%m-%d %H:%M}" if since else "\nqueues")
        show(_queue_table(queues))
    if errors := _errors(lines):
        click.echo(f"\nerrors of messages: {errors}")


def sparkline(values: Iterable[float | None]) -> str:
    """The values as bars from 0 to the greatest; a blank where there is none."""
    known = list(values)
    most = max((value for value in known if value is not None), default=0) or 1
    bars = (" " if value is None else BARS[round(value / most * (len(BARS) - 1))] for value in known)
    return "".join(bars)


def _columns(period: str, lines: Sequence[Line]) -> Mapping[str, list[object]]:
    """The cells of each column, by its header; what never happened has none, so that a report fits 80 columns."""
    messages = [line.data["messages"] for line in lines]
    by_status = [one["by_status"] for one in messages]
    columns: dict[str, list[object]] = {
        f"{period} (UTC)": [_moment(period, line) for line in lines],
        "out": [one["out"] for one in messages],
        "open": [sum(counts.get(status, 0) for status in _OPEN) for counts in by_status],
        **{status: [counts.get(status, 0) for counts in by_status] for status in _ENDINGS},
        "in": [one["in"] for one in messages],
        "arrived": [_percent(one["delivery_rate"]) for one in messages],
        "then read": [_percent(one["read_rate"]) for one in messages],
    }
    return {name: cells for name, cells in columns.items() if name != "unknown" or any(cells)}


def _moment(period: str, line: Line) -> str:
    text = format(line.starts_at, "%Y-%m-%d" if period == "day" else "%m-%d %H:%M")
    return f"{text} …" if line.running else text


def _curves(lines: Sequence[Line]) -> Iterator[tuple[object, ...]]:
    for name, read, write in _FIGURES:
        values = [read(line.data) for line in lines]
        known = [value for value in values if value is not None]
        if any(known):
            yield name, sparkline(values), write(min(known)), write(max(known)), write(values[-1])


def _done(data: Data, what: str) -> float | None:
    queues = (data.get("queues") or {}).get("by_name", {}).values()
    counts = [queue[what] for queue in queues if queue[what] is not None]
    return sum(counts) if counts else None


def _longest_wait(data: Data) -> float | None:
    queues = (data.get("queues") or {}).get("by_name", {}).values()
    waits = [queue["wait_ms"]["p95"] for queue in queues if queue["wait_ms"]["p95"] is not None]
    return max(waits, default=None)


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.0%}"


def _whole(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _span(ms: float | None) -> str:
    return NOTHING if ms is None else duration(ms / 1000)


_FIGURES: tuple[tuple[str, Callable[[Data], float | None], Callable[[float | None], str]], ...] = (
    ("messages out", lambda data: data["messages"]["out"], _whole),
    ("messages in", lambda data: data["messages"]["in"], _whole),
    ("arrived", lambda data: data["messages"]["delivery_rate"], _percent),
    ("then read", lambda data: data["messages"]["read_rate"], _percent),
    ("contacts", lambda data: data["contacts"]["total"], _whole),
    ("new contacts", lambda data: data["contacts"]["new"], _whole),
    ("opted out", lambda data: data["contacts"]["opted_out"], _whole),
    ("campaigns started", lambda data: data["campaigns"]["started"], _whole),
    ("jobs completed", lambda data: _done(data, "completed"), _whole),
    ("jobs failed", lambda data: _done(data, "failed"), _whole),
    ("longest wait (p95)", _longest_wait, _span),
    ("AI tokens", lambda data: data["ai"]["input_tokens"] + data["ai"]["output_tokens"], _whole),
)


def _queue_table(queues: Data) -> Any:
    since = queues["since"]
    rows = [
        (
            name,
            _whole(queue["completed"] if since else queue["totals"]["completed"]),
            _whole(queue["failed"] if since else queue["totals"]["failed"]),
            queue["waiting"],
            queue["delayed"],
            duration(queue["oldest_waiting_seconds"]),
            _span(queue["wait_ms"]["p95"]),
            _span(queue["run_ms"]["p95"]),
        )
        for name, queue in queues["by_name"].items()
        if queue["waiting"] or queue["delayed"] or any(queue["totals"].values())
    ]
    headers = ("queue", "completed", "failed", "waiting", "delayed", "oldest", "wait p95", "run p95")
    return table(headers, rows, right=headers[1:])


def _errors(lines: Sequence[Line]) -> str:
    """The most frequent error codes of all periods shown."""
    sums: dict[str, int] = {}
    for line in lines:
        for code, count in line.data["messages"]["by_error"].items():
            sums[code] = sums.get(code, 0) + count
    ordered = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{code} ({count:,})" for code, count in itertools.islice(ordered, ERRORS_SHOWN))
