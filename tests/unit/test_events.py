"""The event bus, its log lines, and the throttle that keeps them few."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from crmd.telemetry.events import Events, log_subscriber
from crmd.telemetry.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_subscribers_hear_until_they_leave() -> None:
    events, heard = Events(), []

    def listen(name: str, fields: Mapping[str, Any]) -> None:
        heard.append((name, dict(fields)))

    leave = events.subscribe(listen)
    events.emit("job.failed", queue="email", name="a field may have any name")
    leave()
    leave()
    events.emit("job.failed")
    assert heard == [("job.failed", {"queue": "email", "name": "a field may have any name"})]


def test_a_failing_subscriber_disturbs_no_one(caplog: pytest.LogCaptureFixture) -> None:
    events, heard = Events(), []

    def fail(name: str, fields: Mapping[str, Any]) -> None:
        raise RuntimeError("broken")

    events.subscribe(fail)
    events.subscribe(lambda name, fields: heard.append(name))
    events.emit("store.lost")
    assert heard == ["store.lost"]
    assert "a subscriber failed on the event store.lost" in caplog.text


@pytest.mark.parametrize(
    ("event", "level"),
    [
        ("job.failed", logging.WARNING),
        ("store.lost", logging.ERROR),
        ("store.connected", logging.INFO),
        ("job.completed", logging.DEBUG),
    ],
)
def test_events_become_lines(event: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log_subscriber(logging.getLogger("crmd.events"))(event, {"queue": "email"})
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == (event, level)
    assert record.__dict__["fields"] == {"queue": "email"}


def test_a_flood_is_held_to_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    write = log_subscriber(logging.getLogger("crmd.events"), throttle=Throttle(1.0, burst=2, monotonic=clock))
    for _ in range(50):
        write("job.failed", {"queue": "email", "job": "send_email"})
    write("job.failed", {"queue": "webhook", "job": "deliver_webhook"})
    clock.now += 1
    write("job.failed", {"queue": "email", "job": "send_email"})
    assert [record.__dict__["fields"].get("suppressed") for record in caplog.records] == [None, None, None, 48]


def test_throttle_forgets_an_ended_cause_and_the_oldest() -> None:
    throttle = Throttle(60.0, monotonic=Clock())
    assert throttle.allow("store") == 0
    assert throttle.allow("store") is None
    assert throttle.forget("store") == 1
    assert throttle.allow("store") == 0
    for number in range(Throttle.CAUSES_KEPT):
        throttle.allow(number)
    assert throttle.allow("store") == 0
