"""The pipelined connection to the store: what cannot be sent fails alone, and it holds without private ways."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
import uvloop

from crmd.engine.admin.views import NewJob, State
from crmd.engine.store import connection
from crmd.errors import JobNotFound, RequestError, StoreError, StoreUnavailable
from tests.support.engine_harness import EngineHarness
from tests.support.store import StoreServer, open_store
from tests.support.wait import HANG_S, wait_until


@pytest.fixture
def no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if redis-py kept its transport elsewhere."""
    monkeypatch.setattr(connection, "_transport_of", lambda _: None)


@pytest.fixture(params=["transport", "public methods"])
def way(request: pytest.FixtureRequest) -> None:
    """Both ways of using a connection of redis-py."""
    if request.param == "public methods":
        request.getfixturevalue("no_transport")


@pytest.mark.usefixtures("way")
async def test_replies_go_to_their_commands_and_errors_to_theirs_alone(store_url: str) -> None:
    async with open_store(store_url) as store:
        calls = [store.command("ECHO", str(number)) for number in range(500)]
        calls.insert(250, store.command("GET"))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        error = answers.pop(250)
        assert isinstance(error, StoreError)
        assert "wrong number of arguments" in str(error)
        assert answers == [str(number).encode() for number in range(500)]


@pytest.mark.usefixtures("way")
async def test_a_store_that_goes_fails_what_waits_and_is_used_again_when_it_is_back(
    own_store: StoreServer,
) -> None:
    async with open_store(own_store.url) as store:
        own_store.pause()
        waiting = [asyncio.create_task(store.command("ECHO", "1")) for _ in range(3)]
        await asyncio.sleep(0)
        own_store.resume()
        own_store.stop()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(answer == b"1" or isinstance(answer, StoreUnavailable) for answer in answers)
        await wait_until(lambda: not store.connected)
        with pytest.raises(StoreUnavailable):
            await store.command("ECHO", "1")
        own_store.start()
        await wait_until(lambda: store.connected)
        assert await store.command("ECHO", "2") == b"2"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_redis_py_still_has_its_transport(
    store_url: str, caplog: pytest.LogCaptureFixture, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def connect() -> None:
        async with open_store(store_url) as store:
            assert await store.command("ECHO", "1") == b"1"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(connect())
    assert caplog.record_tuples == []


@pytest.mark.usefixtures("no_transport")
async def test_without_the_transport_jobs_run_and_a_warning_says_what_to_do(
    engine: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    @engine.handler("q")
    async def noop(_ctx: object) -> None: ...

    [warning] = [one for one in caplog.get_records("setup") if one.levelno == logging.WARNING]
    assert "redis-py" in warning.getMessage()
    assert "install a version" in warning.getMessage()
    await engine.start_pool()
    keys = [await engine.add("q", "noop") for _ in range(3)]
    assert [(await engine.finished("q", key)).state for key in keys] == [State.COMPLETED] * 3


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("value", ["\ud800", "ok \udcff", None, [1], True, object()])
async def test_what_cannot_be_sent_fails_its_own_command_only(store_url: str, value: object) -> None:
    async with open_store(store_url) as store:
        bad = store.command("ECHO", value)  # type: ignore[arg-type]
        answers = await asyncio.gather(
            store.command("ECHO", "1"), bad, store.command("ECHO", "2"), return_exceptions=True
        )
        assert (answers[0], answers[2]) == (b"1", b"2")
        assert isinstance(answers[1], RequestError)
        assert store.connected
        assert await asyncio.wait_for(store.command("ECHO", "3"), HANG_S) == b"3"


async def test_texts_of_people_that_no_store_takes_are_refused(engine: EngineHarness) -> None:
    with pytest.raises(RequestError):
        await engine.control.pause("q", reason="\ud800")
    with pytest.raises(RequestError):
        await engine.inspector.job("q", "\ud800")
    with pytest.raises(RequestError):
        await engine.control.cancel("q", "\udcff")
    with pytest.raises(JobNotFound):
        await engine.inspector.job("q", "k")
    assert (await engine.inspector.counts("q")).paused is False


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
async def test_a_job_with_impossible_times_is_refused_and_stores_nothing(
    engine: EngineHarness, new: NewJob
) -> None:
    with pytest.raises(RequestError):
        await engine.control.enqueue("q", [NewJob("any", key="good", unique_for=60.0), new])
    assert [name async for name in engine.store.redis.scan_iter()] == []
