"""When schedules come due: the same on every daemon, and right where clocks change."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmd.engine.cron import CronTable, Interval, Recurrence, recurrence

BERLIN = "Europe/Berlin"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def local_time(at_ms: int, zone: str = BERLIN) -> str:
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")


def due(table: Recurrence, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next due times, in hours and offset."""
    times = [ms(start)]
    for _ in range(count):
        times.append(table.next_after(times[-1]))
    return [local_time(at, zone) for at in times[1:]]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # 02:30 is left out on that Sunday: it comes as much after the jump, and only once.
        ("30 2 * * *", ["2026-03-28T02:30+01:00", "2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]),
        ("0 3 * * *", ["2026-03-28T03:00+01:00", "2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
        # What the jump puts onto another due time is that time.
        ("30 2,3 29 3 *", ["2026-03-29T03:30+02:00", "2027-03-29T02:30+02:00", "2027-03-29T03:30+02:00"]),
    ],
)
def test_a_time_that_the_clocks_leave_out(cron: str, expected: list[str]) -> None:
    assert due(CronTable(cron, BERLIN), "2026-03-28T00:00:00+01:00", 3) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("0 2-3 * * *", ["2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00", "2026-10-26T02:00+01:00"]),
        ("30 * * * *", ["2026-10-25T00:30+02:00", "2026-10-25T01:30+02:00", "2026-10-25T02:30+02:00",
                        "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]),
        ("*/30 2 * * *", ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00",
                          "2026-10-25T02:30+01:00", "2026-10-26T02:00+01:00"]),
        ("@daily", ["2026-10-26T00:00+01:00", "2026-10-27T00:00+01:00"]),
    ],
)  # fmt: skip
def test_an_hour_that_comes_twice(cron: str, expected: list[str]) -> None:
    table = CronTable(cron, BERLIN)
    assert due(table, "2026-10-25T00:00:00+02:00", len(expected)) == expected


def test_every_quarter_of_an_hour_has_no_hole_in_real_time() -> None:
    table = CronTable("*/15 * * * *", BERLIN)
    for start in ("2026-03-28T22:00:00+01:00", "2026-10-24T22:00:00+02:00"):
        times = list(itertools.accumulate(range(40), lambda at, _: table.next_after(at), initial=ms(start)))
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {15 * 60_000}


def test_the_day_of_the_zone_counts() -> None:
    table = CronTable("0 0 * * *", "Asia/Tokyo")
    assert due(table, "2026-01-01T10:00:00+00:00", 1, "UTC") == ["2026-01-01T15:00+00:00"]


def test_intervals_are_counted_from_1970_and_not_from_the_start() -> None:
    table = recurrence(None, 300.0, "UTC")
    assert table.next_after(ms("2026-01-01T10:01:17+00:00")) == ms("2026-01-01T10:05:00+00:00")
    assert table.next_after(ms("2026-01-01T10:05:00+00:00")) == ms("2026-01-01T10:10:00+00:00")
    assert table.last_at(ms("2026-01-01T10:05:00+00:00")) == ms("2026-01-01T10:05:00+00:00")
    assert Interval(1.5).next_after(1_500) == 3_000


def test_a_day_that_comes_every_four_years() -> None:
    table = CronTable("0 0 29 2 *", "UTC")
    assert local_time(table.next_after(ms("2026-01-01T00:00:00+00:00")), "UTC") == "2028-02-29T00:00+00:00"
    assert local_time(table.last_at(ms("2026-01-01T00:00:00+00:00")), "UTC") == "2024-02-29T00:00+00:00"


CRONS = [
    "30 2 * * *",
    "*/20 * * * *",
    "0 */2 * * *",
    "15,45 1-3 * * *",
    "0 0 * * sun",
    "7 3 25-31 3,10 *",
    "@hourly",
]
ZONES = [BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca"]
CHANGES = ["2026-03-29T01:00:00+00:00", "2026-10-25T01:00:00+00:00", "2026-04-04T15:00:00+00:00"]


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    change=st.sampled_from(CHANGES),
    minutes=st.integers(-600, 600),
    ahead=st.integers(1, 600),
)
def test_forth_and_back_agree(cron: str, zone: str, change: str, minutes: int, ahead: int) -> None:
    """Between two instants there is a due time in both directions, or in none."""
    table = CronTable(cron, zone)
    start = ms(change) + minutes * 60_000
    end = start + ahead * 60_000
    following, latest = table.next_after(start), table.last_at(end)
    assert (following <= end) == (latest > start)
    assert table.last_at(following) == following
    assert table.next_after(following - 1) == following
    if latest > start:
        assert following <= latest


def test_a_zone_is_that_of_the_table_and_not_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    start = datetime(2026, 6, 1, tzinfo=UTC)
    expected = start + timedelta(hours=9)
    table = CronTable("0 9 * * *", "UTC")
    assert table.next_after(round(start.timestamp() * 1000)) == round(expected.timestamp() * 1000)
