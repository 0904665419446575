"""Messages leave evenly spaced, over two daemons, and the same line serves what waits in order."""

from __future__ import annotations

import asyncio
import time

import pytest

from crmd.crm.whatsapp.send_rate import SendLine, SendRate
from crmd.engine.store.client import Store
from crmd.errors import StoreUnavailable
from tests.support.wait import wait_until

RATE = 200.0


def line(store: Store, per_second: float = RATE) -> SendLine:
    """A daemon's line."""
    return SendLine(SendRate(store, "1", per_second), per_second)


async def send(line: SendLine, starts: list[float]) -> None:
    """What a message does until its request starts."""
    async with await line.place() as place:
        starts.append(await place.slot())


async def test_no_second_holds_more_than_the_rate(store: Store) -> None:
    lines, starts = (line(store), line(store)), list[float]()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(240):
            group.create_task(send(lines[n % 2], starts))
    starts.sort()
    for place, first in enumerate(starts):
        assert sum(first <= at < first + 1 for at in starts[place:]) <= RATE
    assert starts[-1] - began >= 240 / RATE - 0.1


async def test_messages_leave_in_their_order_and_few_are_prepared(store: Store) -> None:
    made, order, prepared = line(store, 50), list[int](), [0]

    async def one(number: int) -> None:
        async with await made.place() as place:
            prepared[0] += 1
            assert prepared[0] <= 2 + 50 * 0.1 + 1
            await place.slot()
            prepared[0] -= 1
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(one(number))
    assert order == list(range(30))


async def test_a_message_that_is_cancelled_leaves_its_place(store: Store) -> None:
    made, starts = line(store, 20), list[float]()
    tasks = [asyncio.create_task(send(made, starts)) for _ in range(40)]
    await wait_until(lambda: len(starts) >= 2, 5)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    before = len(starts)
    await asyncio.gather(*(send(made, starts) for _ in range(5)))
    assert len(starts) == before + 5


async def test_what_is_prepared_leaves_although_the_store_is_away(store: Store) -> None:
    made, starts = line(store), list[float]()
    await send(made, starts)
    await store.stop()
    with pytest.raises(StoreUnavailable):
        await store.command("PING")
    await asyncio.gather(*(send(made, starts) for _ in range(3)))
    assert len(starts) == 4


async def test_without_a_rate_nothing_waits() -> None:
    made, starts = SendLine(None), list[float]()
    await asyncio.gather(*(send(made, starts) for _ in range(1000)))
    await made.refused(0.0)
    assert len(starts) == 1000
