"""Operations of several writes: a connection that breaks between two trips leaves nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from crmd.config.tables import AlertsTable
from crmd.crm.notifications.alerts import Alerts, Finding
from crmd.engine.admin.schedules import Schedules
from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings, ScheduleSettings, SettingsRegistry
from crmd.engine.store import keys
from crmd.engine.store.keys import QueueKeys
from crmd.errors import StoreUnavailable
from tests.support.engine_harness import EngineHarness

QUEUES = (QueueSettings("q"), QueueSettings("notification"))
INSTANTS = (b"at", b"until", b"position", b"paused_at", b"blocked_until")
TRIPS = 6
"""More than any of these operations makes."""

State = dict[str, tuple[Any, bool]]
Operation = Callable[[EngineHarness], Awaitable[Any]]


async def state(r: EngineHarness, names: Sequence[str]) -> State:
    """Each hash or string, without its instants, and whether it has an end."""
    found: State = {}
    for name in names:
        if await r.store.command("TYPE", name) == b"hash":
            flat = await r.store.command("HGETALL", name)
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            value: Any = {key: None if key in INSTANTS and fields[key] != b"1" else fields[key] for key in fields}
        else:
            value = await r.store.command("EXISTS", name)
        found[name] = (value, await r.store.command("PTTL", name) > 0)
    return found


def cut_after(r: EngineHarness, trips: int, patch: pytest.MonkeyPatch) -> None:
    """Lets so many commands reach the store, and none after them."""
    command, left = r.store.command, [trips]

    async def cut(*given: Any) -> Any:
        if not left[0]:
            raise StoreUnavailable("cut")
        left[0] -= 1
        return await command(*given)

    patch.setattr(r.store, "command", cut)


async def pause_again(r: EngineHarness) -> None:
    await r.control.pause("q", reason="second", duration=60)


async def limit_again(r: EngineHarness) -> None:
    await r.control.limit("q", Rate(2, 1), 60)


async def resume(r: EngineHarness) -> None:
    await r.control.resume("q")


def schedules(r: EngineHarness) -> Schedules:
    return Schedules(
        r.control, SettingsRegistry({}, {"s": ScheduleSettings("s", "q", "note", every_seconds=3600.0)})
    )


async def resume_schedule(r: EngineHarness) -> None:
    await schedules(r).resume("s")


async def tell(r: EngineHarness) -> None:
    alerts = Alerts(r.control, AlertsTable())
    await alerts._tell("oldest_waiting:q", Finding("oldest_waiting", "q", True, "stands"), 1_000)


async def before_queue(r: EngineHarness) -> None:
    await r.control.pause("q", reason="first")
    await r.control.limit("q", Rate(1, 1))
    await r.inspector.queue("q").slow_down(60.0)


async def before_schedule(r: EngineHarness) -> None:
    await schedules(r).pause("s", by="ann")
    await r.store.command("HSET", keys.schedule("s"), "due", 1, "position", 1)


async def nothing(r: EngineHarness) -> None:
    """Where the operation begins on an empty store."""


_Q = QueueKeys("q")


@pytest.mark.parametrize(
    ("begin", "operation", "names"),
    [
        (before_queue, pause_again, [_Q.paused]),
        (before_queue, limit_again, [_Q.override]),
        (before_queue, resume, [_Q.paused, _Q.blocked, _Q.counters]),
        (before_schedule, resume_schedule, [keys.schedule("s")]),
        (nothing, tell, [keys.alert("oldest_waiting", "q")]),
    ],
)
@pytest.mark.queues(*QUEUES)
async def test_a_cut_leaves_all_or_nothing(
    engine: EngineHarness, begin: Operation, operation: Operation, names: list[str]
) -> None:
    await begin(engine)
    before = await state(engine, names)
    await operation(engine)
    after = await state(engine, names)
    assert before != after
    for trips in range(TRIPS):
        await engine.store.command("FLUSHALL")
        await begin(engine)
        with pytest.MonkeyPatch.context() as patch:
            cut_after(engine, trips, patch)
            await asyncio.gather(operation(engine), return_exceptions=True)
        assert await state(engine, names) in (before, after), f"after {trips} trips"


@pytest.mark.queues(*QUEUES)
async def test_a_pause_that_is_replaced_never_opens_the_queue(engine: EngineHarness) -> None:
    await engine.control.pause("q", reason="first")
    pauses = [engine.control.pause("q", reason=f"{i}", duration=60) for i in range(50)]
    looks = [engine.store.command("EXISTS", _Q.paused) for _ in pauses]
    mixed = [one for pair in zip(pauses, looks, strict=True) for one in pair]
    assert 0 not in await asyncio.gather(*mixed)
