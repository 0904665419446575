"""Fixtures of the script tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crmd.engine.settings import QueueSettings
from crmd.engine.store.client import Store
from tests.support.leaks import no_leaks, untidy
from tests.support.script_harness import Bench, ScriptHarness, bench
from tests.support.storeclock import StoreClock, freeze

__all__ = ["no_leaks", "untidy"]


@pytest.fixture
async def clock(store: Store) -> StoreClock:
    """The clock of `store`'s scripts, set by the test."""
    return await freeze(store)


@pytest.fixture
def harness(request: pytest.FixtureRequest, store: Store) -> ScriptHarness:
    """The queue of the mark `queues`, or `q` that holds finished jobs back for no ten seconds."""
    mark = request.node.get_closest_marker("queues")
    return ScriptHarness(store, *(mark.args if mark else [QueueSettings("q", keep_min_seconds=0)]))


@pytest.fixture
def workbench(store_url: str) -> Iterator[Bench]:
    """A store with a clock, for hypothesis examples."""
    with bench(store_url) as made:
        yield made
