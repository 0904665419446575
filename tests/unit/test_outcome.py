"""The one place that decides what becomes of a job: every way an attempt can end, and when it is tried again."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from crmd.engine.durations import Rate
from crmd.engine.settings import Backoff, KeyedLimit, QueueSettings
from crmd.engine.store.replies import AckKind
from crmd.engine.worker import execution as rules
from crmd.engine.worker.acks import ack_of
from crmd.engine.worker.backoff import LONGEST_WAIT_S, backoff_seconds, retry_delay
from crmd.engine.worker.execution import MAX_ERROR_CHARS, CancelReason, Execution, Outcome
from crmd.errors import (
    InvalidPayload,
    JobSignal,
    OutcomeUnknown,
    PauseQueue,
    Permanent,
    RateLimited,
    RecordsUnavailable,
    RecordsUnusable,
    Retry,
    Snooze,
)
from tests.support.executions import make_execution

NOW = 1_800_000_000.0
Q = QueueSettings("q", attempts=3, backoff=Backoff(4.0, 4.0), unknown_job_grace_seconds=300.0)
LIMITED = replace(Q, limits=(KeyedLimit("to", Rate(1, 6), 45),))


def raised(error: BaseException, execution: Execution | None = None, settings: QueueSettings = Q) -> Outcome:
    """How an attempt ends whose handler raised."""
    return rules.raised(error, execution or make_execution(), settings, NOW)


class Odd(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


FAILURES = [
    ValueError("x"),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    RecursionError(),
    StopIteration(),
    StopAsyncIteration(),
    asyncio.CancelledError(),
    TimeoutError(),
    ExceptionGroup("many", [ValueError("one")]),
    BaseExceptionGroup("many", [KeyboardInterrupt()]),
    Odd(),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_is_raised_is_the_failure_of_one_attempt(error: BaseException) -> None:
    end = raised(error)
    assert (end.kind, end.event, end.counts) == (AckKind.RETRY, "retried", True)
    assert type(error).__name__ in (end.error or "")
    assert 2.0 <= end.delay <= 4.0
    assert raised(error, make_execution(attempt=3)).kind is AckKind.FAILED
    assert raised(error, make_execution(side_effect_started=True)).kind is AckKind.UNKNOWN


@pytest.mark.parametrize("error", [RecordsUnavailable("away"), RecordsUnusable("newer")])
def test_a_job_that_cannot_reach_the_database_waits_and_spends_no_attempt(error: Exception) -> None:
    end = raised(error, make_execution(attempt=3))
    assert (end.kind, end.delay, end.counts) == (AckKind.SNOOZE, rules.RECORDS_AWAY_S, False)
    assert raised(error, make_execution(side_effect_started=True)).kind is AckKind.UNKNOWN


SIGNALS: list[tuple[JobSignal | InvalidPayload, Outcome]] = [
    (Permanent("gone"), Outcome(AckKind.FAILED, "failed", error="gone")),
    (Permanent("gone", code="131026"), Outcome(AckKind.FAILED, "failed", error="[131026] gone")),
    (Permanent("(131026) gone", code="131026"), Outcome(AckKind.FAILED, "failed", error="(131026) gone")),
    (InvalidPayload("to: missing"), Outcome(AckKind.FAILED, "failed", error="to: missing")),
    (Retry("busy", after=7), Outcome(AckKind.RETRY, "retried", error="busy", delay=7)),
    (Retry("busy", after=1e12), Outcome(AckKind.RETRY, "retried", error="busy", delay=LONGEST_WAIT_S)),
    (Retry("busy", after=float("nan")), Outcome(AckKind.RETRY, "retried", error="busy")),
    (Retry("busy", after=7, max_attempts=1), Outcome(AckKind.FAILED, "failed", error="busy")),
    (Retry("busy", after=7, max_attempts=9), Outcome(AckKind.RETRY, "retried", error="busy", delay=7)),
    (Snooze("not yet", after=5), Outcome(AckKind.SNOOZE, "snoozed", error="not yet", delay=5, counts=False)),
    (Snooze("not yet", after=-5), Outcome(AckKind.SNOOZE, "snoozed", error="not yet", counts=False)),
    (
        Snooze("not yet", after=float("inf")),
        Outcome(AckKind.SNOOZE, "snoozed", error="not yet", delay=LONGEST_WAIT_S, counts=False),
    ),
    (Snooze("not yet", after=float("nan")), Outcome(AckKind.SNOOZE, "snoozed", error="not yet", counts=False)),
    (
        Snooze(until=datetime.fromtimestamp(NOW + 90, UTC)),
        Outcome(AckKind.SNOOZE, "snoozed", error="snoozed", delay=90, counts=False),
    ),
    (
        Snooze(until=datetime.fromtimestamp(NOW + 90, UTC).replace(tzinfo=None)),
        Outcome(AckKind.SNOOZE, "snoozed", error="snoozed", delay=90, counts=False),
    ),
    (
        Snooze(until=datetime.fromtimestamp(NOW - 90, UTC)),
        Outcome(AckKind.SNOOZE, "snoozed", error="snoozed", counts=False),
    ),
    (
        RateLimited("slow", after=9),
        Outcome(AckKind.RETURN, "rate_limited", error="slow", counts=False, slow_down=(9, "queue")),
    ),
    (
        RateLimited("slow", after=9, scope="key"),
        Outcome(AckKind.SNOOZE, "rate_limited", error="slow", counts=False, delay=9),
    ),
    (
        PauseQueue("token expired"),
        Outcome(AckKind.RETURN, "given_back", "token expired", counts=False, pause="token expired"),
    ),
    (OutcomeUnknown("no reply"), Outcome(AckKind.UNKNOWN, "unknown", error="outcome unknown: no reply")),
]


@pytest.mark.parametrize(("signal", "expected"), SIGNALS, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_says_how_it_ended(signal: JobSignal, expected: Outcome, begun: bool) -> None:
    """Also after an effect has begun: who raises a signal knows what became of it."""
    assert raised(signal, make_execution(side_effect_started=begun)) == expected


@pytest.mark.parametrize("signal", [Retry("busy"), Retry("busy", after=1)])
def test_a_retry_ends_with_the_last_attempt(signal: Retry) -> None:
    assert raised(signal, make_execution(attempt=2)).kind is AckKind.RETRY
    assert raised(signal, make_execution(attempt=3)).kind is AckKind.FAILED
    assert raised(signal, make_execution(attempt=7)).kind is AckKind.FAILED


@pytest.mark.parametrize("signal", [Snooze(after=1), RateLimited("slow", after=1), PauseQueue("stop")])
def test_what_spends_no_attempt_does_not_end_with_the_last_one(signal: JobSignal) -> None:
    assert not raised(signal, make_execution(attempt=3)).counts
    assert not raised(signal, make_execution(attempt=3)).kind.final


def test_a_key_is_slowed_down_where_the_job_has_one() -> None:
    signal = RateLimited("slow", after=9, scope="key")
    assert raised(signal, make_execution(kwargs={"to": "ann"}), LIMITED).slow_down == (9, "key")
    assert raised(signal, make_execution(kwargs={"to": 7}), LIMITED).slow_down == (9, "key")
    for kwargs in ({}, {"to": None}, {"other": "ann"}):
        end = raised(signal, make_execution(kwargs=kwargs), LIMITED)
        assert (end.kind, end.slow_down, end.delay) == (AckKind.SNOOZE, None, 9)


@pytest.mark.parametrize(
    "signal",
    [
        Retry("x", after="soon"),  # type: ignore[arg-type]
        Retry("x", max_attempts="two"),  # type: ignore[arg-type]
        Snooze(after="soon"),  # type: ignore[arg-type]
        Snooze(until="soon"),  # type: ignore[arg-type]
        RateLimited("x", after=None),  # type: ignore[arg-type]
    ],
)
def test_a_signal_whose_values_are_none_is_a_failure(signal: JobSignal) -> None:
    end = raised(signal)
    assert (end.kind, end.counts) == (AckKind.RETRY, True)
    assert "Error" in (end.error or "")


@pytest.mark.parametrize(
    ("reason", "begun", "attempt", "kind", "counts"),
    [
        (CancelReason.TIMEOUT, False, 1, AckKind.RETRY, True),
        (CancelReason.TIMEOUT, False, 3, AckKind.FAILED, True),
        (CancelReason.TIMEOUT, True, 1, AckKind.UNKNOWN, True),
        (CancelReason.ABORT, False, 1, AckKind.ABORTED, True),
        (CancelReason.ABORT, True, 1, AckKind.UNKNOWN, True),
        (CancelReason.DRAIN, False, 3, AckKind.RETURN, False),
        (CancelReason.DRAIN, True, 3, AckKind.UNKNOWN, True),
        (CancelReason.LOST, False, 1, AckKind.RETURN, False),
    ],
)
def test_what_we_cancelled(reason: CancelReason, begun: bool, attempt: int, kind: AckKind, counts: bool) -> None:
    execution = make_execution(side_effect_started=begun, attempt=attempt, cancel_reason=reason)
    for end in (raised(asyncio.CancelledError(), execution), rules.cancelled(execution, Q)):
        assert (end.kind, end.counts) == (kind, counts)


def test_a_timeout_says_after_how_long_and_a_cancel_says_why() -> None:
    execution = make_execution(attempt=3, timeout=90.0, cancel_reason=CancelReason.TIMEOUT)
    assert rules.cancelled(execution, Q).error == "TimeoutError: timed out after 90s"
    execution = make_execution(cancel_reason=CancelReason.ABORT, cancel_detail="by hand")
    assert rules.cancelled(execution, Q).error == "by hand"


def test_a_handler_that_answers_a_cancel_with_its_own_error_has_failed() -> None:
    assert raised(ValueError("x"), make_execution(cancel_reason=CancelReason.TIMEOUT)).kind is AckKind.RETRY


class Result(BaseModel):
    """What a handler may return."""

    n: int


@pytest.mark.parametrize(
    ("result", "raw"),
    [
        (None, b"null"),
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        (Result(n=1), b'{"n":1}'),
        (2**70, b"1180591620717411303424"),
    ],
)
def test_a_result_is_kept_as_json(result: Any, raw: bytes) -> None:
    end = rules.returned(result)
    assert (end.kind, end.event, end.error) == (AckKind.COMPLETE, "completed", None)
    assert end.result is not None
    assert end.result.raw == raw


def nested(levels: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def recursive() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "result",
    [{1, 2}, float("nan"), [None, float("inf")], object(), "x" * 300_000, recursive(), nested(5_000), nested(600)],
    ids=["set", "nan", "inf", "object", "large", "recursive", "deep", "less deep"],
)
def test_a_result_that_is_no_json_fails_once_with_the_reason(result: Any) -> None:
    end = rules.returned(result)
    assert (end.kind, end.result) == (AckKind.FAILED, None)
    assert (end.error or "").startswith("the result is")


@pytest.mark.parametrize(
    ("waited", "kind", "delay"),
    [
        (0.0, AckKind.SNOOZE, 15.0),
        (290.0, AckKind.SNOOZE, 10.1),
        (300.0, AckKind.FAILED, 0.0),
        (1e12, AckKind.FAILED, 0.0),
    ],
)
def test_an_unknown_job_waits_for_a_deploy_and_then_fails(waited: float, kind: AckKind, delay: float) -> None:
    end = rules.not_known(make_execution(), Q, ["other", "work2"], waited)
    assert (end.kind, end.counts) == (kind, kind is AckKind.FAILED)
    assert end.delay == pytest.approx(delay)
    assert end.error == "no job 'work' in queue q; known: other, work2"


def test_of_a_long_error_the_end_is_kept() -> None:
    text = rules.describe(ValueError("a" * 50_000 + "the end"))
    assert len(text) == MAX_ERROR_CHARS + 1
    assert text.endswith("the end")


@pytest.mark.parametrize("error", ["plain", "lone \ud800 surrogate", "\x00", "\U0001f600"])
def test_any_error_text_can_be_stored(error: str) -> None:
    execution = make_execution(marked=True)
    ack = ack_of(execution, Outcome(AckKind.FAILED, "failed", error=error), NOW)
    assert ack.document
    assert ack.entry


@pytest.mark.parametrize(
    ("at_least", "delay"), [(1.0, 4.0), (90.0, 90.0), (float("nan"), 4.0), (1e12, LONGEST_WAIT_S)]
)
def test_a_retry_comes_by_the_backoff_and_not_before_what_was_asked_for(at_least: float, delay: float) -> None:
    settled = raised(Retry("later", at_least=at_least), settings=replace(Q, backoff=Backoff(8.0, 8.0)))
    assert settled.kind is AckKind.RETRY
    assert delay <= settled.delay <= max(delay, 8.0)


# Retries


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
