"""An external store whose disk is full, under two daemons."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crmd.engine.admin.views import State
from crmd.engine.maintenance import heartbeat as lease
from crmd.engine.maintenance import lease_observer, tick
from crmd.engine.settings import QueueSettings
from crmd.errors import StoreError, StoreFull
from tests.faults.small_disk import fill, mounted
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.fault_cost import fault_cost
from tests.support.store import StoreServer
from tests.support.wait import wait_until

pytestmark = pytest.mark.faults

DISK_BYTES = 24 * 1024 * 1024
SHORT_LEASE_S = 2.0


@pytest.fixture
def small_disk_store(store_binary: Path) -> Iterator[StoreServer]:
    """A persistent server whose folder is a small disk of its own."""
    server = StoreServer(store_binary, persistent=True)
    with closing(server), mounted(server.folder, DISK_BYTES), server:
        yield server


async def test_two_daemons_on_a_full_disk_take_no_job_from_each_other(
    small_disk_store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lease, lease_observer, tick):
        monkeypatch.setattr(module, "LEASE_S", SHORT_LEASE_S)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.5)
    monkeypatch.setattr(tick, "INFO_EVERY_TICKS", 1)
    async with engine_harness(small_disk_store.url, QueueSettings("q", timeout_seconds=None)) as r:
        starts, go = list[str](), asyncio.Event()

        @r.handler("q")
        async def work(ctx: dict[str, Any], text: str = "") -> str:
            starts.append(ctx["job"].key)
            await go.wait()
            return "done"

        pools = [await r.start_pool(), await r.start_pool()]
        added = [await r.add("q", "work") for _ in range(20)]
        await wait_until(lambda: len(starts) == 20)
        await asyncio.sleep(SHORT_LEASE_S)  # from now on either could find the other dead

        filler = fill(small_disk_store.folder)
        await wait_until(lambda: _refuses(r), 20)
        async with fault_cost(r.store.events) as found:
            await asyncio.sleep(SHORT_LEASE_S * 2)
        assert found.cpu < 0.10
        assert found.pulse >= 0.95
        assert found.lines_per_second <= 2, found.lines
        assert "disk" in " ".join(pool.degraded.get("q", "") for pool in pools) or not any(
            pool.degraded for pool in pools
        )
        counts = await r.inspector.counts("q")
        assert counts.active == 20

        go.set()  # outcomes wait for the space
        await asyncio.sleep(0.3)
        assert any("disk" in pool.degraded.get("q", "") for pool in pools)
        filler.unlink()
        for key in added:
            assert (await r.finished("q", key, 5)).state is State.COMPLETED
        await asyncio.sleep(SHORT_LEASE_S)
        assert sorted(starts[:20]) == sorted(added)
        totals = (await r.inspector.totals())["q"]
        assert (totals.lost, len(set(starts[:20]))) == (0, 20)
        await wait_until(lambda: not any(pool.degraded for pool in pools))


async def _refuses(r: EngineHarness) -> bool:
    """Adds until the disk is full: jobs of 50 kB that nobody has time for."""
    try:
        await r.add("q", "work", text="x" * 50_000)
    except StoreFull:
        return True
    except StoreError:
        return False
    return False
