"""Schedules on a real store: each due time one job, over several daemons, their deaths, and clocks that change."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.schedules import Schedules
from crmd.engine.maintenance.scheduler import LATE_MS, LONGEST_SLEEP_S, Scheduler
from crmd.engine.settings import QueueSettings, ScheduleSettings, SettingsRegistry
from crmd.engine.store import keys
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.schedules import FURTHEST_AHEAD_MS
from crmd.errors import UnknownSchedule
from crmd.telemetry.events import Events
from tests.support.storeclock import NOW_KEY, StoreClock, freeze
from tests.support.wait import wait_until

QUEUE = QueueSettings("analytics")
MINUTE = 60_000
Made = Callable[[], Awaitable["Machine"]]


class Machine:
    """One daemon's part in this: a connection of its own, and a scheduler on it."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        bus = Events()
        bus.subscribe(lambda name, fields: self.events.append((name, dict(fields))))
        self.store = Store(StoreTarget(url), bus)
        queues = {QUEUE.name: QUEUE, "email": QueueSettings("email")}
        self.registry = SettingsRegistry(queues)
        self.control = Control(self.store, Inspector(self.store, self.registry))
        self.scheduler = Scheduler(self.control, self.registry)
        self.schedules = Schedules(self.control, self.registry)

    def configure(self, settings: dict[str, ScheduleSettings]) -> None:
        self.registry.replace(self.registry.queues, settings)
        self.scheduler.configure()

    async def jobs(self, queue: str = QUEUE.name) -> list[str]:
        """The keys of what waits, in order."""
        k = self.control.inspector.queue(queue).keys
        return [k.key_of(raw.decode()) for raw in await self.store.command("LRANGE", k.queued, 0, -1)]

    def said(self, name: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == name]

    async def stop(self) -> None:
        await self.scheduler.stop()
        await self.control.stop()
        await self.store.stop()


def scheduled(name: str = "a", **fields: Any) -> ScheduleSettings:
    given: dict[str, Any] = {"queue": "analytics", "job": "snapshot", "payload": {"period": "hour"}}
    return ScheduleSettings(name, **given | fields)


EVERY_MINUTE = {"a": scheduled(cron="* * * * *")}


@pytest.fixture
async def machines(store_url: str) -> AsyncIterator[Made]:
    """Makes machines whose scripts see the clock that `clock` sets."""
    made: list[Machine] = []

    async def make() -> Machine:
        machine = Machine(store_url)
        await machine.store.start(wait=False)
        if made:
            now = await machine.store.command("GET", NOW_KEY)
            await (await freeze(machine.store)).set(int(now))
        made.append(machine)
        return machine

    yield make
    for machine in made:
        await machine.stop()


@pytest.fixture
async def machine(machines: Made) -> Machine:
    return await machines()


@pytest.fixture
async def clock(machine: Machine) -> StoreClock:
    """The store's clock, which begins on a whole hour."""
    clock = await freeze(machine.store)
    assert clock.ms % (60 * MINUTE) == 0
    return clock


async def begin(machine: Machine, clock: StoreClock, settings: dict[str, ScheduleSettings] = EVERY_MINUTE) -> int:
    """Lets a machine know schedules; the time in ms."""
    machine.configure(settings)
    await machine.scheduler.run_once()
    return clock.ms


async def run_at(machine: Machine, clock: StoreClock, ms: int) -> None:
    """One pass at that time."""
    await clock.set(ms)
    await machine.scheduler.run_once()


def due_keys(clock_ms: int, *minutes: int) -> list[str]:
    return [f"schedule:a:{clock_ms // 1000 + 60 * minute}" for minute in minutes]


async def test_a_new_schedule_begins_now_and_adds_a_job_when_it_is_due(
    machine: Machine, clock: StoreClock
) -> None:
    machine.configure(EVERY_MINUTE)
    start = clock.ms
    await clock.forward(500)
    assert await machine.scheduler.run_once() == LONGEST_SLEEP_S
    await clock.set(start + 59_000)
    assert await machine.scheduler.run_once() == pytest.approx(1.0, abs=0.01)
    assert await machine.jobs() == []
    await run_at(machine, clock, start + MINUTE)
    await machine.scheduler.run_once()
    assert await machine.jobs() == due_keys(start, 1)
    view = await machine.control.inspector.job("analytics", *due_keys(start, 1))
    assert (view.job, view.payload, view.state) == ("snapshot", {"period": "hour"}, "waiting")
    [ran] = machine.said("schedule.ran")
    assert (ran["schedule"], ran["key"], ran["late_seconds"]) == ("a", view.key, 0)


async def test_three_daemons_add_one_job_for_each_time_although_they_die_in_between(
    machines: Made, machine: Machine, clock: StoreClock
) -> None:
    dice = random.Random(7)
    machine.configure(EVERY_MINUTE)
    await machine.scheduler.run_once()
    alive, start, rounds = [machine], clock.ms, 40
    for number in range(rounds):
        while len(alive) < 3:
            new = await machines()
            new.configure(EVERY_MINUTE)
            alive.append(new)
        await clock.set(start + (number + 1) * MINUTE)
        passes = [asyncio.create_task(one.scheduler.run_once()) for one in alive]
        for _ in range(dice.randrange(8)):
            await asyncio.sleep(0)
        if number % 5 == 4:
            # What kill -9 leaves: the connection gone wherever the pass was, the script perhaps on its way.
            passes[-1].cancel()
            await alive.pop().store.stop()
        await asyncio.gather(*passes, return_exceptions=True)
    await machine.scheduler.run_once()
    assert await machine.jobs() == due_keys(start, *range(1, rounds + 1))


async def test_a_schedule_that_was_missed_runs_once(machines: Made, machine: Machine, clock: StoreClock) -> None:
    start = await begin(machine, clock)
    await clock.set(start + 90 * MINUTE + 30_000)
    late = await machines()
    late.configure(EVERY_MINUTE)
    await late.scheduler.run_once()
    assert await late.jobs() == due_keys(start, 90)
    assert late.said("schedule.ran")[0]["late_seconds"] == 30
    await run_at(late, clock, start + 91 * MINUTE)
    assert await late.jobs() == due_keys(start, 90, 91)


async def test_a_schedule_that_skips_passes_over_what_was_missed(machine: Machine, clock: StoreClock) -> None:
    daily = {"a": scheduled(cron="0 5 * * *", missed="skip")}
    machine.configure(daily)
    await run_at(machine, clock, round(datetime.fromisoformat("2027-05-01T04:00:00+00:00").timestamp() * 1000))
    start = clock.ms
    await run_at(machine, clock, start + 60 * MINUTE + LATE_MS + 1)
    assert await machine.jobs() == []
    assert len(machine.said("schedule.skipped")) == 1
    await run_at(machine, clock, start + 25 * 60 * MINUTE + LATE_MS)
    assert await machine.jobs() == due_keys(start, 25 * 60)


async def test_a_clock_that_is_set_back_a_little_runs_nothing_twice(machine: Machine, clock: StoreClock) -> None:
    start = await begin(machine, clock)
    for minute in (1, 2, 3, 4):
        await run_at(machine, clock, start + minute * MINUTE)
    await clock.set(start)
    for minute in (1, 2, 3, 4, 5):
        await run_at(machine, clock, start + minute * MINUTE)
    assert await machine.jobs() == due_keys(start, 1, 2, 3, 4, 5)


async def test_a_clock_that_was_far_ahead_does_not_silence_a_schedule(machine: Machine, clock: StoreClock) -> None:
    machine.configure(EVERY_MINUTE)
    await machine.scheduler.run_once()
    start, year = clock.ms, 365 * 24 * 60
    await run_at(machine, clock, start + year * MINUTE)
    await run_at(machine, clock, start)
    await run_at(machine, clock, start + MINUTE)
    assert await machine.jobs() == due_keys(start, year, 1)
    assert year * MINUTE > FURTHEST_AHEAD_MS


async def test_a_lost_record_does_not_double_a_job(machine: Machine, clock: StoreClock) -> None:
    start = await begin(machine, clock)
    await run_at(machine, clock, start + MINUTE)
    await machine.store.command("DEL", keys.schedule("a"))
    await run_at(machine, clock, start)
    await run_at(machine, clock, start + MINUTE)
    assert await machine.jobs() == due_keys(start, 1)


async def test_a_pause_lasts_over_restarts_and_nothing_of_it_is_caught_up(
    machines: Made, machine: Machine, clock: StoreClock
) -> None:
    start = await begin(machine, clock)
    await machine.schedules.pause("a", by="ada", reason="holiday")
    await clock.set(start + 5 * MINUTE)
    other = await machines()
    other.configure(EVERY_MINUTE)
    await other.scheduler.run_once()
    [view] = await other.schedules.all()
    assert (view.paused_by, view.paused_reason, view.next_run_at) == ("ada", "holiday", None)
    assert view.paused_at == start / 1000
    await other.schedules.resume("a")
    await machine.scheduler.run_once()
    assert await machine.jobs() == []
    await run_at(machine, clock, start + 6 * MINUTE)
    assert await machine.jobs() == due_keys(start, 6)


async def test_other_times_begin_anew_and_the_same_go_on(machine: Machine, clock: StoreClock) -> None:
    start = await begin(machine, clock, {"a": scheduled(every_seconds=3600.0)})
    await clock.set(start + 90 * MINUTE)
    machine.configure({"a": scheduled(cron="* * * * *", payload={"period": "day"})})
    await machine.scheduler.run_once()
    assert await machine.jobs() == []
    await clock.set(start + 95 * MINUTE)
    machine.configure({"a": scheduled(cron="* * * * *", payload={"period": "day"})})
    await machine.scheduler.run_once()
    assert await machine.jobs() == due_keys(start, 95)


async def test_a_fault_of_one_schedule_stays_there(machine: Machine, clock: StoreClock, untidy: None) -> None:
    machine.configure({"a": scheduled(cron="* * * * *"), "b": scheduled("b", queue="email", cron="* * * * *")})
    await machine.scheduler.run_once()
    broken = machine.control.inspector.queue("email").keys.queued
    await machine.store.command("SET", broken, "wrong")
    start = clock.ms
    await run_at(machine, clock, start + MINUTE)
    assert await machine.jobs() == due_keys(start, 1)
    await machine.store.command("DEL", broken)
    await machine.scheduler.run_once()
    assert len(await machine.jobs("email")) == 1


async def test_a_full_store_keeps_the_time_for_later(machine: Machine, clock: StoreClock) -> None:
    start = await begin(machine, clock)
    await clock.set(start + MINUTE)
    machine.store.memory_ratio = 0.9
    assert await machine.scheduler.run_once() == 1.0
    assert await machine.jobs() == []
    machine.store.memory_ratio = 0.1
    await machine.scheduler.run_once()
    assert await machine.jobs() == due_keys(start, 1)


async def test_it_ticks_until_it_is_stopped_and_takes_other_schedules_at_once(machine: Machine) -> None:
    await machine.scheduler.start()
    await machine.scheduler.start()
    machine.configure({"a": scheduled(every_seconds=1.0)})
    await wait_until(lambda: len(machine.said("schedule.ran")) >= 2, 10)
    machine.configure({})
    await wait_until(lambda: machine.scheduler._wake.is_set() is False)
    await machine.scheduler.stop()
    await machine.scheduler.stop()
    jobs = await machine.jobs()
    assert len(jobs) == len(set(jobs)) == len(machine.said("schedule.ran"))


async def test_what_the_outside_sees_and_does(machine: Machine, clock: StoreClock) -> None:
    tables = {
        "a": scheduled(cron="5 * * * *", timezone="Europe/Berlin"),
        "off": scheduled("off", every_seconds=90.0, enabled=False),
    }
    start = await begin(machine, clock, tables)
    a, off = await machine.schedules.all()
    assert (a.name, a.queue, a.job, a.missed) == ("a", "analytics", "snapshot", "once")
    assert (a.times, a.next_run_at) == ("5 * * * * Europe/Berlin", start / 1000 + 300)
    assert (a.last_run_at, a.last_key, a.last_state) == (None, None, None)
    assert (off.enabled, off.times, off.next_run_at) == (False, "every 90s", None)
    added = await machine.schedules.run("a")
    ran = await machine.schedules.get("a")
    assert (ran.last_key, ran.last_state, ran.last_due_at) == (added.key, "waiting", None)
    assert ran.to_json()["last_run_at"].endswith("Z")
    await machine.control.delete("analytics", added.key)
    assert (await machine.schedules.get("a")).last_state is None
    with pytest.raises(UnknownSchedule, match="did you mean off"):
        await machine.schedules.pause("of")
