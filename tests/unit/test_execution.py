"""What a running job takes from its JSON, whatever stands there."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.engine.codec import LONGEST_TIMEOUT_S, attempts_allowed, attempts_so_far, queued_at, timeout_of
from crmd.engine.settings import QueueSettings
from crmd.engine.worker.execution import CancelReason
from tests.support.executions import make_execution, make_executor

Q = QueueSettings("q", attempts=3, timeout_seconds=60.0)
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(10**400), math.inf, -math.inf, math.nan, -0.0]),
        st.floats(),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (5, 5.0),
        (0.5, 0.5),
        (0, None),
        (0.0, None),
        (-0.0, None),
        (None, 60.0),
        (-1, 60.0),
        (True, 60.0),
        ("5", 60.0),
        (math.nan, 60.0),
        (math.inf, LONGEST_TIMEOUT_S),
        (10**400, LONGEST_TIMEOUT_S),
    ],
)
def test_timeout_is_the_jobs_own_or_the_queues(timeout: Any, expected: float | None) -> None:
    assert timeout_of({"timeout": timeout}, Q) == expected


def test_a_job_that_says_nothing_has_the_queues_settings() -> None:
    assert (timeout_of({}, Q), attempts_allowed({}, Q), attempts_so_far({}), queued_at({})) == (60.0, 3, 0, 0.0)


@pytest.mark.parametrize(
    ("retries", "expected"), [(1, 1), (7, 7), (0, 3), (-1, 3), (None, 3), ("2", 3), (2.5, 3), ([], 3)]
)
def test_attempts_are_the_jobs_own_or_the_queues(retries: Any, expected: int) -> None:
    assert attempts_allowed({"retries": retries}, Q) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"attempts": 2}, 2),
        ({"attempts": 2, "status": "queued"}, 2),
        ({"attempts": 2, "status": "active"}, 1),  # noted as begun; its daemon died
        ({"attempts": 0, "status": "active"}, 0),
        ({"attempts": -4}, 0),
        ({"attempts": "2"}, 0),
        ({"attempts": None, "status": "active"}, 0),
    ],
)
def test_an_attempt_that_was_lost_with_its_daemon_does_not_count(fields: dict[str, Any], expected: int) -> None:
    assert attempts_so_far(fields) == expected


@given(value=ANYTHING)
def test_anything_may_stand_in_a_foreign_job(value: Any) -> None:
    fields = dict.fromkeys(("timeout", "retries", "attempts", "queued", "status"), value)
    timeout = timeout_of(fields, Q)
    assert timeout is None or 0 < timeout <= LONGEST_TIMEOUT_S
    assert attempts_allowed(fields, Q) >= 1
    assert attempts_so_far(fields) >= 0
    assert math.isfinite(queued_at(fields))
    assert queued_at(fields) >= 0


async def test_the_first_reason_to_cancel_stands() -> None:
    times = iter([10.0, 20.0])
    executor = make_executor(lambda: next(times))
    task = asyncio.create_task(asyncio.Event().wait())
    execution = make_execution(task=task)
    executor.cancel(execution, CancelReason.TIMEOUT)
    executor.cancel(execution, CancelReason.DRAIN, "late")
    await asyncio.wait([task])
    assert task.cancelled()
    assert (execution.cancel_reason, execution.cancel_detail) == (CancelReason.TIMEOUT, None)
    assert execution.abandon_at == 11.0


async def test_what_has_ended_is_not_cancelled() -> None:
    execution = make_execution(ended=True)
    make_executor(lambda: 10.0).cancel(execution, CancelReason.ABORT)
    assert execution.cancel_reason is None


def test_deliveries_and_deadline() -> None:
    assert (make_execution(crash_count=0).delivery, make_execution(crash_count=2).delivery) == (1, 3)
    assert make_execution(timeout=None).deadline is None
    assert make_execution(timeout=5.0, started_at=100.0).deadline == 105.0
