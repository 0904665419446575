"""crmd's own alerts: told once over all daemons, again while they last, and when they are over."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from crmd.config.tables import AlertsTable
from crmd.crm.notifications import alerts as alert_rules
from crmd.crm.notifications.alerts import FAILURES_WITHIN_S, AlertRules, Alerts
from crmd.engine.admin.queue_health import QueueObservation
from crmd.engine.admin.views import NewJob, QueueCounts, QueueTotals
from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.store import keys
from tests.support.engine_harness import EngineHarness
from tests.support.leaks import no_leaks, untidy
from tests.support.store import StoreServer
from tests.support.wait import wait_until

__all__ = ["no_leaks", "untidy"]

QUEUES = (
    QueueSettings("email"),
    QueueSettings("message", rate_limit=Rate(1, 3600.0), limits=(KeyedLimit("to", Rate(1, 3600.0), 1),)),
    QueueSettings("notification"),
)
pytestmark = pytest.mark.queues(*QUEUES)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Machines:
    """The alerts of several daemons on one store."""

    def __init__(self, engine: EngineHarness, count: int, **table: Any) -> None:
        self.engine, self.clock = engine, Clock()
        given = AlertsTable.model_validate(table)
        self.alerts = [Alerts(engine.control, given, monotonic=self.clock) for _ in range(count)]

    async def looks(self, count: int = 3) -> None:
        """So many passes of each, all at once."""
        for _ in range(count):
            self.clock.at += 5
            await asyncio.gather(*(one.run_once() for one in self.alerts))

    async def told(self) -> list[str]:
        """The texts of the notifications that were added, in order."""
        page = await self.engine.inspector.jobs("notification", limit=200)
        return [view.payload["message"] for view in page.jobs]


async def old_job(engine: EngineHarness, queue: str, seconds: float = 1000, **payload: Any) -> str:
    """A job that seems to have waited so long."""
    before = engine.control._now
    engine.control._now = lambda: before() - seconds
    key = await engine.add(queue, "work", **payload)
    engine.control._now = before
    return key


async def test_a_job_that_waits_too_long_is_told_once_by_three_daemons(engine: EngineHarness) -> None:
    machines = Machines(engine, 3)
    await old_job(engine, "email")
    await machines.looks(2)
    assert await machines.told() == []
    await machines.looks(3)
    assert await machines.told() == ["queue email: a job has waited for 16m, and nothing holds the queue"]
    [view] = (await engine.inspector.jobs("notification")).jobs
    assert view.payload == {
        "title": "crmd", "message": view.payload["message"], "level": "error", "channel": "log", "group": None
    }  # fmt: skip
    assert len([name for name, _ in engine.events if name == "alert.raised"]) == 1


async def test_its_end_is_told_once_and_a_new_one_is_a_new_one(engine: EngineHarness) -> None:
    machines = Machines(engine, 3)
    key = await old_job(engine, "email")
    await machines.looks()
    await engine.control.cancel("email", key)
    await machines.looks()
    assert (await machines.told())[1:] == ["queue email: its jobs start again"]
    await machines.looks()
    assert len(await machines.told()) == 2
    await old_job(engine, "email")
    await machines.looks()
    assert len(await machines.told()) == 3


async def test_it_is_told_again_while_it_lasts_but_not_more_often_than_repeat(engine: EngineHarness) -> None:
    machines = Machines(engine, 2, repeat="10m")
    await old_job(engine, "email")
    await machines.looks()
    key = keys.alert("oldest_waiting", "email")
    since = int(await engine.store.command("GET", key))
    await engine.store.command("SET", key, since - 540_000, "KEEPTTL")
    await machines.looks(1)
    assert len(await machines.told()) == 2, "for the daemons it is another one, as it began at another time"
    await engine.store.command("SET", key, since - 600_000, "KEEPTTL")
    await machines.looks(5)
    told = await machines.told()
    assert (len(told), any(text.endswith(", for 10m now") for text in told)) == (3, True)


async def test_a_daemon_that_starts_later_repeats_nothing_and_may_tell_the_end(engine: EngineHarness) -> None:
    first = Machines(engine, 1)
    key = await old_job(engine, "email")
    await first.looks()
    later = Machines(engine, 1)
    await later.looks()
    assert len(await later.told()) == 1
    await engine.control.cancel("email", key)
    await later.looks()
    assert len(await later.told()) == 2


async def test_what_is_paused_or_limited_is_no_alert(engine: EngineHarness) -> None:
    @engine.handler("message")
    async def work(_ctx: dict[str, Any], *, to: str) -> None:
        pass

    machines = Machines(engine, 1)
    await old_job(engine, "email")
    await engine.control.pause("email")
    for _ in range(2):
        await old_job(engine, "message", to="+491701234567")
    await engine.start_pool(only=["message"])
    await wait_until(lambda: counts(engine, "completed", 1))
    await machines.looks(5)
    assert await machines.told() == [], "one start an hour: the queue is limited"
    await engine.control.limit("message", Rate(1000, 1.0))
    await wait_until(lambda: parked(engine))
    await machines.looks(5)
    assert await machines.told() == [], "the second one is held by its number"
    await engine.control.resume("email")
    await machines.looks()
    assert len(await machines.told()) == 1


async def counts(engine: EngineHarness, state: str, number: int) -> bool:
    return bool(getattr(await engine.inspector.counts("message"), state) == number)


async def parked(engine: EngineHarness) -> bool:
    return bool(await engine.store.command("ZCARD", engine.inspector.queue("message").keys.parked))


async def test_switched_off_it_says_nothing(engine: EngineHarness) -> None:
    machines = Machines(engine, 1, oldest_waiting="none", failure_share=1, store_away="none")
    await old_job(engine, "email", 1e6)
    await machines.looks(5)
    assert await machines.told() == []


async def test_jobs_that_fail_are_told(engine: EngineHarness) -> None:
    @engine.handler("email")
    async def work(_ctx: dict[str, Any], *, fail: bool) -> None:
        if fail:
            raise ValueError("no")

    engine.registry.put(QueueSettings("email", attempts=1))
    machines = Machines(engine, 2)
    await machines.looks(1)
    await engine.start_pool(only=["email"])
    added = await engine.control.enqueue("email", [NewJob("work", {"fail": n % 4 != 0}) for n in range(40)])
    for one in added:
        await engine.finished("email", one.key)
    await machines.looks()
    [text] = await machines.told()
    assert text.startswith("queue email: 75% of 40 jobs failed within ")
    machines.clock.at += FAILURES_WITHIN_S
    await machines.looks(5)
    assert (await machines.told())[1:] == ["queue email: its jobs no longer fail"]


async def test_what_is_wrong_with_notifications_themselves_goes_to_the_log(
    engine: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    machines = Machines(engine, 1)
    await old_job(engine, "notification")
    await machines.looks(6)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "crmd: queue notification: a job has waited for 16m, and nothing holds the queue"
    ]
    assert len((await engine.inspector.jobs("notification")).jobs) == 1


async def test_a_store_that_is_away_goes_to_the_log_and_its_return_is_told_once(
    engine: EngineHarness, own_store: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    machines = Machines(engine, 2, store_away="30s", repeat="10m")
    await machines.looks()
    own_store.kill()
    await wait_until(lambda: not engine.store.connected)
    await machines.looks()
    assert not [record for record in caplog.records if "has been unavailable" in record.getMessage()]
    machines.clock.at += 30
    await machines.looks(5)
    said = [record.getMessage() for record in caplog.records if "has been unavailable" in record.getMessage()]
    assert len(said) == 2, "each daemon writes to its own log, once"
    own_store.start()
    await wait_until(lambda: engine.store.connected)
    await machines.looks()
    [text] = await machines.told()
    assert text.startswith("the store was unavailable for ")
    assert text.endswith("; it is back")


async def test_it_starts_and_stops(engine: EngineHarness) -> None:
    alerts = Machines(engine, 1).alerts[0]
    await alerts.stop()
    await alerts.start()
    await alerts.start()
    await alerts.stop()
    await alerts.stop()


# AlertRules


def observed(completed: int, failed: int) -> dict[str, QueueObservation]:
    counts = QueueCounts("email", 0, 0, 0, 0, 0, 0, 0, None, None, None, None, None, None, None)
    return {"email": QueueObservation(counts, QueueTotals("email", completed=completed, failed=failed), True)}


def failing(rules: AlertRules, at: float, completed: int, failed: int) -> bool | None:
    [_, finding] = rules.apply(observed(completed, failed), at, 0.0)
    return finding.wrong


def test_a_share_of_few_jobs_says_nothing_before_the_whole_time_has_passed() -> None:
    rules = AlertRules(AlertsTable())
    assert [failing(rules, at, 0, 19) for at in (0, 5, 10, 15)] == [None] * 4
    assert [failing(rules, 300 + at, 0, 19) for at in (0, 5, 10, 15)] == [None, None, False, False]


def test_a_store_that_begins_at_nought_again_is_no_failure() -> None:
    rules = AlertRules(AlertsTable())
    failing(rules, 0, 1000, 1000)
    assert [failing(rules, 5.0 * n, 10, 0) for n in range(1, 6)] == [None] * 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.4, "1s"), (59.6, "60s"), (119.0, "119s"), (120.0, "2m"), (3659.0, "1h"), (3700.0, "61m")],
)
def test_durations_are_those_of_people(seconds: float, text: str) -> None:
    assert alert_rules.about(seconds) == text.replace("60s", "1m")
