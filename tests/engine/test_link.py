"""The link to the store: what cannot be sent fails alone."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.admin.views import NewJob
from crmd.engine.settings import QueueSettings
from crmd.engine.store.client import Store, StoreTarget
from crmd.errors import JobNotFound, RequestError
from tests.support.fleet import rig


@pytest.mark.parametrize("value", ["\ud800", "ok \udcff", None, [1], True, object()])
async def test_what_cannot_be_sent_fails_its_own_command_only(store_url: str, value: object) -> None:
    store = Store(StoreTarget(store_url))
    await store.start(wait=False)
    try:
        bad = store.command("ECHO", value)  # type: ignore[arg-type]
        answers = await asyncio.gather(
            store.command("ECHO", "1"), bad, store.command("ECHO", "2"), return_exceptions=True
        )
        assert (answers[0], answers[2]) == (b"1", b"2")
        assert isinstance(answers[1], RequestError)
        assert store.connected
        assert await asyncio.wait_for(store.command("ECHO", "3"), 1) == b"3"
    finally:
        await store.stop()


async def test_texts_of_people_that_no_store_takes_are_refused(store_url: str) -> None:
    async with rig(store_url, QueueSettings("q")) as r:
        with pytest.raises(RequestError):
            await r.control.pause("q", reason="\ud800")
        with pytest.raises(RequestError):
            await r.inspector.job("q", "\ud800")
        with pytest.raises(RequestError):
            await r.control.cancel("q", "\udcff")
        with pytest.raises(JobNotFound):
            await r.inspector.job("q", "k")
        assert (await r.inspector.counts("q")).paused is False


@pytest.mark.parametrize(
    "new",
    [
        NewJob("any", delay=1e300),
        NewJob("any", delay=float("inf")),
        NewJob("any", delay=float("nan")),
        NewJob("any", at=float("nan")),
        NewJob("any", at=1e300),
        NewJob("any", at=-1e300),
        NewJob("any", unique_for=1e300),
        NewJob("any", unique_for=1e11),
        NewJob("any", unique_for=366 * 86_400.0),
        NewJob("any", unique_for=float("nan")),
        NewJob("any", delay=-1.0),
        NewJob("any", delay=1.0, at=1.0),
        NewJob("any", priority=11),
        NewJob("any", key="no blanks"),
        NewJob("any", key=""),
    ],
    ids=repr,
)
async def test_a_job_with_impossible_times_is_refused_and_stores_nothing(store_url: str, new: NewJob) -> None:
    async with rig(store_url, QueueSettings("q")) as r:
        with pytest.raises(RequestError):
            await r.control.enqueue("q", [NewJob("any", key="good", unique_for=60.0), new])
        assert [name async for name in r.store.redis.scan_iter()] == []
