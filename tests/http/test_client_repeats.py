"""The clients repeat a request whose answer was lost, and add nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crmd import AsyncClient, NewJob, StoreUnavailable
from crmd.client.over_http import TIMEOUT_S
from crmd.client.repeating import LONGEST_S
from crmd.engine.settings import QueueSettings
from crmd.engine.store.keys import QueueKeys
from crmd.errors import InvalidPayload, RequestError
from tests.support.http import Site, site, token_table
from tests.support.proxy import Proxy, proxy
from tests.support.store import StoreServer

TOKEN = "shop-token-12345"


class LossyWay:
    """Passes connections on to a server, and cuts as many as it is told to once the answer is there."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self.to_lose = 0
        self.silent = False
        """Whether a connection gets no answer instead of being cut."""
        self.lost = 0

    async def start(self) -> str:
        """Listens; says where."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Ends."""
        if self._server:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        above, up = await asyncio.open_connection(*self._target)
        request = asyncio.create_task(_pass(reader, up))
        try:
            while data := await above.read(65_536):
                if self.to_lose:
                    self.to_lose -= 1
                    self.lost += 1
                    if self.silent:
                        continue
                    break
                writer.write(data)
        finally:
            request.cancel()
            writer.close()
            up.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    async with site(store_url, auth={"tokens": {"shop": token_table(TOKEN, "enqueue", "read")}}) as made:
        yield made


@pytest.fixture
async def way(web: Site) -> AsyncIterator[LossyWay]:
    made = LossyWay(*web.server.address)
    yield made
    await made.stop()


@pytest.fixture
async def client(way: LossyWay, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    monkeypatch.setattr("crmd.client.repeating.PAUSES_S", (0.01, 0.02, 0.05))
    async with AsyncClient(await way.start(), token=TOKEN) as made:
        yield made


async def waiting(web: Site) -> int:
    return (await web.harness.inspector.counts("email")).waiting


@pytest.mark.parametrize("lost", [1, 3])
async def test_an_enqueue_whose_answer_was_lost(web: Site, way: LossyWay, client: AsyncClient, lost: int) -> None:
    way.to_lose = lost
    added = await client.enqueue("email", "greet", {"name": "Ada"})
    assert (added.created, way.lost, await waiting(web)) == (True, lost, 1)
    assert (await client.job("email", added.key)).key == added.key
    another = await client.enqueue("email", "greet", {"name": "Ada"})
    assert another.key != added.key


async def test_many_in_parts(web: Site, way: LossyWay, client: AsyncClient) -> None:
    jobs = [NewJob("greet", {"name": str(number)}) for number in range(2_500)]
    way.to_lose = 2
    first = await client.enqueue_many("email", jobs, idempotency_key="file-1")
    assert (len({one.key for one in first}), await waiting(web)) == (2_500, 2_500)
    again = await client.enqueue_many("email", jobs, idempotency_key="file-1")
    assert [(one.key, one.created, one.state) for one in again] == [(one.key, True, "waiting") for one in first]
    assert {one.repeated for one in again} == {True}
    assert await waiting(web) == 2_500


async def test_when_no_answer_comes_at_all(web: Site, way: LossyWay, client: AsyncClient) -> None:
    way.to_lose = 100
    with pytest.raises(StoreUnavailable):
        await client.enqueue("email", "greet", {"name": "Ada"}, idempotency_key="order-17")
    assert way.lost == 4
    way.to_lose = 0
    added = await client.enqueue("email", "greet", {"name": "Ada"}, idempotency_key="order-17")
    assert (added.created, added.state, await waiting(web)) == (True, "waiting", 1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the clients' times are a tenth."""
    monkeypatch.setattr("crmd.client.over_http.TIMEOUT_S", TIMEOUT_S / 10)
    monkeypatch.setattr("crmd.client.repeating.LONGEST_S", LONGEST_S / 10)


async def test_an_enqueue_whose_answer_does_not_come_in_time(
    web: Site, way: LossyWay, client: AsyncClient, impatient: None
) -> None:
    way.to_lose, way.silent = 1, True
    added = await client.enqueue("email", "greet", {"name": "Ada"})
    assert (added.created, way.lost, await waiting(web)) == (True, 1, 1)


async def test_a_timeout_says_that_it_is_one(way: LossyWay, client: AsyncClient, impatient: None) -> None:
    way.to_lose, way.silent = 100, True
    with pytest.raises(StoreUnavailable, match=r"/jobs/k: .*[Tt]imeout"):
        await client.job("email", "k")


async def test_a_key_of_another_request_or_of_none(client: AsyncClient) -> None:
    await client.enqueue("email", "greet", {"name": "Ada"}, idempotency_key="order-17")
    with pytest.raises(InvalidPayload, match="stands for another request"):
        await client.enqueue("email", "greet", {"name": "Eve"}, idempotency_key="order-17")
    with pytest.raises(RequestError, match="visible ASCII"):
        await client.enqueue("email", "greet", {"name": "Eve"}, idempotency_key="order 17")


async def test_a_program_at_the_store_goes_by_the_daemons_unique_for(store_url: str) -> None:
    queues = (QueueSettings("orders", unique_for_seconds=3600.0), QueueSettings("message"))
    async with site(store_url, queues=queues) as web, AsyncClient(store_url) as client:
        await web.work()
        for queue, again in (("orders", False), ("message", True)):
            for created in (True, again):
                added = await client.enqueue(queue, "greet", {"name": "Ada"}, key="k")
                assert added.created is created
                await client.wait(queue, added.key, 10)
            made = await client.enqueue(queue, "greet", {"name": "Ada"}, key="own", unique_for=60.0)
            await client.wait(queue, made.key, 10)
            assert not (await client.enqueue(queue, "greet", {"name": "Ada"}, key="own")).created


@pytest.mark.parametrize(
    "wrong",
    [
        ("SET", "crmd:unique_for", "wrong"),
        ("HSET", "crmd:unique_for", "message", "a day"),
        ("HSET", "crmd:unique_for", "message", "-1"),
        ("HSET", "crmd:unique_for", "message", "9" * 400),
    ],
)
async def test_a_program_at_the_store_goes_by_the_shipped_unique_for_where_none_is_told(
    web: Site, store_url: str, wrong: tuple[str, ...]
) -> None:
    await web.harness.store.command(*wrong)
    async with AsyncClient(store_url) as client:
        assert (await client.enqueue("message", "greet", {"name": "Ada"}, key="k")).created
        job_id = QueueKeys("message").job_id("k")
        assert await web.harness.store.command("HGET", QueueKeys("message").unique_for, job_id) == b"86400000"
    await web.harness.store.command("DEL", "crmd:unique_for")


@pytest.fixture
async def middle(store_server: StoreServer) -> AsyncIterator[Proxy]:
    async with proxy(store_server.socket) as made:
        yield made


async def test_straight_to_the_store(web: Site, middle: Proxy) -> None:
    async with AsyncClient(middle.url) as client:

        async def add(name: str = "Ada") -> Any:
            return await client.enqueue("email", "greet", {"name": name}, idempotency_key="order-17")

        middle.lose_reply("greet")
        added = await add()
        assert middle.lost.is_set()
        assert (added.created, await waiting(web)) == (True, 1)
        again = await add()
        assert (again.key, again.created, again.state) == (added.key, True, "waiting")
        assert (added.repeated, again.repeated) == (True, True), "the first answer was lost, and asked for again"
        other = await client.enqueue("email", "greet", {"name": "Ada"}, idempotency_key="order-18")
        assert (other.created, other.repeated) == (True, False)
        with pytest.raises(RequestError, match="stands for another request"):
            await add("Eve")
        middle.lose_reply("greet")
        with pytest.raises(StoreUnavailable):
            await client.enqueue("email", "greet", {"name": "Ada"})
    assert await waiting(web) == 3, "once each"


async def test_a_store_that_is_away_while_a_queue_is_asked_about(web: Site, middle: Proxy) -> None:
    async with AsyncClient(middle.url) as client:
        middle.lose_reply("crmd:unique_for")
        added = await client.enqueue("email", "greet", {"name": "Ada"}, key="k", idempotency_key="order-17")
        assert middle.lost.is_set()
        assert (added.key, added.created, await waiting(web)) == ("k", True, 1)
