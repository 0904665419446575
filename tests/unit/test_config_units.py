"""Durations and rates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.engine.durations import Rate, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("10min", 600.0),
        ("2.3m", 138.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        (" 5 s ", 5.0),
        ("0s", 0.0),
        ("none", None),
    ],
)
def test_durations_are_read(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30, '30 has no unit; write "30s" for seconds or "30ms" for milliseconds (Bull\'s unit)'),
        (1.5, '1.5 has no unit; write "1.5s" for seconds or "1.5ms" for milliseconds (Bull\'s unit)'),
        ("30", '30 has no unit; write "30s" for seconds or "30ms" for milliseconds (Bull\'s unit)'),
        ("-5s", '"-5s" is not a duration; write a number with ms, s, m, h or d, such as "30s", or "none"'),
        ("5 weeks", '"5 weeks" is not a duration; write a number with ms, s, m, h or d, such as "30s", or "none"'),
        ("", '"" is not a duration; write a number with ms, s, m, h or d, such as "30s", or "none"'),
        (True, 'true is not a duration; write a number with ms, s, m, h or d, such as "30s", or "none"'),
    ],
)
def test_what_is_no_duration_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        parse_duration(value)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "none"),
        (0.0, "0s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (1.5, "1.5s"),
        (90.0, "90s"),
        (600.0, "10m"),
        (5400.0, "90m"),
        (86400.0, "1d"),
        (1234567.5, "1234567.5s"),
    ],
)
def test_durations_are_written_short_and_exact(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    read = parse_duration(format_duration(seconds))
    assert read is not None
    assert math.isclose(read, seconds, rel_tol=1e-12, abs_tol=0)


@pytest.mark.parametrize(
    ("text", "rate", "written"),
    [
        ("20/min", Rate(20, 60.0), "20/min"),
        ("20/m", Rate(20, 60.0), "20/min"),
        ("80/s", Rate(80, 1.0), "80/s"),
        ("1000/h", Rate(1000, 3600.0), "1000/h"),
        ("100/10s", Rate(100, 10.0), "100/10s"),
        ("1/6s", Rate(1, 6.0), "1/6s"),
        ("5/10m", Rate(5, 600.0), "5/10min"),
        ("5/60s", Rate(5, 60.0), "5/min"),
        (" 3 / 2 h ", Rate(3, 7200.0), "3/2h"),
        ("1/500ms", Rate(1, 0.5), "1/500ms"),
    ],
)
def test_rates_are_read_and_written(text: str, rate: Rate, written: str) -> None:
    assert Rate.parse(text) == rate
    assert str(rate) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20", '"20" is not a rate; write count/period, such as "20/min", "80/s" or "100/10s"'),
        (
            "20/fortnight",
            '"20/fortnight" is not a rate; write count/period, such as "20/min", "80/s" or "100/10s"',
        ),
        ("0/s", '"0/s" lets nothing through; pause the queue instead'),
        ("5/0s", '"5/0s" lets nothing through; pause the queue instead'),
    ],
)
def test_what_is_no_rate_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        Rate.parse(text)
    assert str(caught.value) == message


@given(st.integers(1, 10**6), st.integers(1, 10**9))
def test_a_rate_survives_being_written_and_read(count: int, period_ms: int) -> None:
    rate = Rate(count, period_ms / 1000)
    read = Rate.parse(str(rate))
    assert read.count == count
    assert math.isclose(read.period_seconds, rate.period_seconds, rel_tol=1e-12, abs_tol=0)
