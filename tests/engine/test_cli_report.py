"""`crmd report` on a real database and a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.analytics import repository as snapshots
from crmd.crm.analytics.commands import sparkline
from crmd.crm.analytics.repository import Period
from crmd.crm.messages.tables import Message
from crmd.errors import ExitCode
from tests.support.cli import Cli, cli, store_cli
from tests.support.database import in_state_folder

__all__ = ["cli", "store_cli"]


def fill(cli: Cli, *statuses: str, days: int = 0) -> None:
    """Messages of now with these statuses, and snapshots of the days before."""

    async def make(s: AsyncSession) -> None:
        now = datetime.now(UTC)
        for status in statuses:
            code = "131047" if status == "failed" else None
            s.add(
                Message(direction="out", phone="+491701234567", type="text", status=status, status_at=now,
                        created_at=now, error_code=code)
            )  # fmt: skip
        today = Period.DAY.start_of(now)
        for back in range(1, days + 1):
            data = await snapshots.compute(s, now, now)
            data["messages"]["out"] = back
            await snapshots.save(s, Period.DAY, today - timedelta(days=back), data)

    in_state_folder(cli.state_dir, make)


def test_before_the_first_snapshot_it_shows_today_as_it_is(store_cli: Cli) -> None:
    fill(store_cli, "delivered", "read", "failed", "accepted")
    done = store_cli("report")
    assert (done.code, done.err) == (0, "")
    header, row, *rest = done.out.splitlines()
    assert " ".join(header.split()) == "day (UTC) out open delivered read failed in arrived then read"
    assert row.split() == [f"{datetime.now(UTC):%Y-%m-%d}", "…", "4", "1", "1", "1", "1", "0", "50%", "50%"]
    assert "errors of messages: 131047 (1)" in rest


def test_the_last_days_come_first_with_their_curves(store_cli: Cli) -> None:
    fill(store_cli, "sent", days=9)
    store_cli("enqueue", "notification", "notify", "message=hello")
    lines = store_cli("report", "--json").json["lines"]
    assert [line["messages"]["out"] for line in lines] == [6, 5, 4, 3, 2, 1, 1]
    assert [line["running"] for line in lines] == [False] * 6 + [True]
    assert lines[-1]["queues"]["by_name"]["notification"]["waiting"] == 1
    page = store_cli("report", "--last", "3").out
    assert "messages out  █▅▅" in page
    assert [line.split()[:4] for line in page.splitlines() if line.startswith("notification")] == [
        ["notification", "0", "0", "1"]
    ]


def test_hours(store_cli: Cli) -> None:
    fill(store_cli, "unknown")
    done = store_cli("report", "--period", "hour", "--json")
    [line] = done.json["lines"]
    assert (done.json["period"], line["running"], line["messages"]["by_status"]) == ("hour", True, {"unknown": 1})
    assert "unknown" in store_cli("report", "--period", "hour").out.splitlines()[0]


def test_without_the_store_the_database_tells_the_rest(cli: Cli) -> None:
    fill(cli, "read")
    done = cli("report", "--json")
    assert (done.code, done.err, done.json["lines"][0]["queues"]) == (0, "", None)


def test_without_a_database_it_says_so(cli: Cli) -> None:
    done = cli("report")
    assert (done.code, done.out) == (ExitCode.UNAVAILABLE, "")
    assert "there are no records yet" in done.complaint
    assert not (cli.state_dir / "records.sqlite").exists()


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([0, 0], "▁▁"), ([0, 1, 2], "▁▅█"), ([None, 0.5, 1.0], " ▅█"), ([7], "█")],
)
def test_bars(values: list[Any], bars: str) -> None:
    assert sparkline(values) == bars
