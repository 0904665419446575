"""The settings registry: one replacement, and every reader follows."""

from __future__ import annotations

import pytest

from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import NewJob
from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings, ScheduleSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.limits import rate_window
from crmd.errors import UnknownQueue
from tests.support.engine_harness import EngineHarness
from tests.support.wait import wait_until


@pytest.fixture
def queues() -> dict[str, QueueSettings]:
    return {"a": QueueSettings("a", keep_completed=1), "b": QueueSettings("b")}


def test_what_was_given_can_change_without_the_registry(queues: dict[str, QueueSettings]) -> None:
    given = dict(queues)
    registry = SettingsRegistry(given)
    given.clear()
    assert list(registry.queues) == ["a", "b"]
    with pytest.raises(TypeError):
        registry.queues["c"] = QueueSettings("c")  # type: ignore[index]


def test_a_replacement_is_whole(queues: dict[str, QueueSettings]) -> None:
    registry = SettingsRegistry(queues, {"s": ScheduleSettings("s", "a", "job", every_seconds=1.0)})
    before = registry.queues
    registry.replace({"c": QueueSettings("c")}, {})
    assert (list(registry.queues), dict(registry.schedules)) == (["c"], {})
    assert list(before) == ["a", "b"], "who still holds the old ones sees none of the new"


def test_one_queue_is_put_beside_the_others(queues: dict[str, QueueSettings]) -> None:
    schedule = ScheduleSettings("s", "a", "job", every_seconds=1.0)
    registry = SettingsRegistry(queues, {"s": schedule})
    registry.put(QueueSettings("b", attempts=9))
    registry.put(QueueSettings("c"))
    assert list(registry.queues) == ["a", "b", "c"]
    assert (registry.queues["b"].attempts, registry.queues["a"]) == (9, queues["a"])
    assert dict(registry.schedules) == {"s": schedule}


def test_an_inspector_knows_new_queues_and_keeps_the_scripts_of_the_old(queues: dict[str, QueueSettings]) -> None:
    inspector = Inspector(Store(StoreTarget("redis://localhost:1")), SettingsRegistry(queues))
    kept = inspector.queue("a")
    assert kept.retention[0] == 1
    inspector.registry.put(QueueSettings("a", keep_completed=7, rate_limit=Rate(3, 60.0)))
    inspector.registry.put(QueueSettings("c"))
    assert inspector.queue("a") is kept
    assert (kept.settings.keep_completed, kept.retention[0], kept.rate_args) == (7, 7, rate_window(Rate(3, 60.0)))
    assert [inspector.queue(name).keys.name for name in inspector.settings] == ["a", "b", "c"]
    with pytest.raises(UnknownQueue, match="there are: a, b, c"):
        inspector.queue("d")


@pytest.mark.queues(QueueSettings("a", rate_limit=Rate(1, 3600.0)))
async def test_the_next_trip_goes_by_the_new_limit(engine: EngineHarness) -> None:
    ran: list[int] = []

    @engine.handler("a")
    async def note(_ctx: dict[str, object], number: int) -> None:
        ran.append(number)

    pool = await engine.start_pool()
    await engine.control.enqueue("a", [NewJob("note", {"number": number}) for number in range(3)])
    await wait_until(lambda: len(ran) == 1)
    assert (await engine.inspector.counts("a")).waiting == 2
    engine.registry.put(QueueSettings("a"))
    await pool.configure(engine.catalog, {})
    await wait_until(lambda: sorted(ran) == [0, 1, 2])
