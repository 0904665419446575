"""When a failed attempt is tried again: the backoff's bounds, and what a job or an error may ask for."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.engine.settings import Backoff
from crmd.engine.worker.backoff import LONGEST_WAIT_S, backoff_seconds, retry_delay

ATTEMPTS = st.integers(1, 10_000)
BACKOFFS = st.builds(Backoff, st.floats(0, 3_600), st.floats(0.001, 86_400))


@pytest.mark.parametrize("attempt", range(1, 13))
def test_ten_thousand_draws_lie_in_their_bounds_and_spread_evenly(attempt: int) -> None:
    backoff, draws = Backoff(2.0, 600.0), random.Random(attempt)
    full = min(600.0, 2.0 * 2 ** (attempt - 1))
    waits = [backoff_seconds(backoff, attempt, draws.random) for _ in range(10_000)]
    assert all(full / 2 <= wait <= full for wait in waits)
    assert sum(waits) / len(waits) == pytest.approx(full * 0.75, rel=0.05)
    assert min(waits) < full * 0.52
    assert max(waits) > full * 0.98


@given(backoff=BACKOFFS, attempt=ATTEMPTS, draw=st.floats(0, 1))
def test_no_wait_is_over_the_cap_or_the_exponential(backoff: Backoff, attempt: int, draw: float) -> None:
    wait = backoff_seconds(backoff, attempt, lambda: draw)
    assert 0 <= wait <= backoff.max_seconds
    assert wait <= backoff.base_seconds * 2.0 ** min(attempt - 1, 1_000)


@given(backoff=BACKOFFS, attempt=ATTEMPTS, draw=st.floats(0, 1))
def test_later_attempts_do_not_wait_less(backoff: Backoff, attempt: int, draw: float) -> None:
    waits = [backoff_seconds(backoff, n, lambda: draw) for n in (attempt, attempt + 1)]
    assert waits[0] <= waits[1]


@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, 0.0), (1.5, 1.5), (-1, 0.0), (1e300, LONGEST_WAIT_S), (math.inf, LONGEST_WAIT_S), (math.nan, 0.0)],
)
def test_an_error_may_say_when(after: float, expected: float) -> None:
    assert retry_delay({"retry_delay": 7}, Backoff(), 3, after) == expected


@pytest.mark.parametrize(
    ("fields", "attempt", "low", "high"),
    [
        ({}, 1, 1.0, 2.0),  # the queue's own
        ({"retry_delay": 3}, 5, 3.0, 3.0),  # as in SAQ: the same each time
        ({"retry_delay": 0}, 5, 0.0, 0.0),
        ({"retry_delay": 3, "retry_backoff": False}, 5, 3.0, 3.0),
        ({"retry_delay": 3, "retry_backoff": True}, 3, 6.0, 12.0),
        ({"retry_delay": 3, "retry_backoff": 10}, 3, 5.0, 10.0),
        ({"retry_backoff": True}, 3, 0.0, 0.0),
        ({"retry_delay": -5}, 1, 0.0, 0.0),
        ({"retry_delay": None}, 1, 0.0, 0.0),
    ],
)
def test_a_job_may_say_how_long(fields: dict[str, Any], attempt: int, low: float, high: float) -> None:
    waits = [retry_delay(fields, Backoff(), attempt, None, draw) for draw in (lambda: 0.0, lambda: 1.0)]
    assert waits == [low, high]


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), math.inf, -math.inf, math.nan, 1e308, "5", [], {}]),
    st.floats(),
    st.text(),
)


@given(delay=ANYTHING, growth=ANYTHING, attempt=ATTEMPTS)
def test_whatever_a_foreign_job_says_the_wait_is_a_time(delay: Any, growth: Any, attempt: int) -> None:
    wait = retry_delay({"retry_delay": delay, "retry_backoff": growth}, Backoff(), attempt, None)
    assert 0 <= wait <= LONGEST_WAIT_S
