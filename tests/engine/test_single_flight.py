"""Those who ask for the same at once share one call."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.single_flight import SingleFlight
from tests.support.wait import wait_until


class Source:
    """Counts its calls, which last until it is opened."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def call(self) -> int:
        self.calls += 1
        await self.open.wait()
        if self.error:
            raise self.error
        return self.calls


async def test_who_asks_during_a_call_shares_it_and_who_asks_later_does_not() -> None:
    flight, source = SingleFlight[str, int](), Source()
    asked = [asyncio.create_task(flight.run("a", source.call)) for _ in range(3)]
    other = asyncio.create_task(flight.run("b", source.call))
    await wait_until(lambda: source.calls == 2)
    assert "a" in flight
    source.open.set()
    assert await asyncio.gather(*asked, other) == [2, 2, 2, 2]
    assert "a" not in flight
    assert await flight.run("a", source.call) == 3


async def test_a_caller_that_leaves_leaves_the_call_to_the_others() -> None:
    flight, source = SingleFlight[str, int](), Source()
    first, second = (asyncio.create_task(flight.run("a", source.call)) for _ in range(2))
    await wait_until(lambda: source.calls == 1)
    first.cancel()
    source.open.set()
    assert await second == 1
    assert first.cancelled()


async def test_an_error_goes_to_all_and_is_not_kept() -> None:
    flight, source = SingleFlight[str, int](), Source()
    source.error = ValueError("no")
    source.open.set()
    said = await asyncio.gather(*(flight.run("a", source.call) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in said] == ["no", "no"]
    source.error = None
    assert await flight.run("a", source.call) == 2


async def test_stopping_cancels_what_is_under_way() -> None:
    flight, source = SingleFlight[str, int](), Source()
    asked = asyncio.create_task(flight.run("a", source.call))
    await wait_until(lambda: source.calls == 1)
    await flight.stop()
    await flight.stop()
    with pytest.raises(asyncio.CancelledError):
        await asked
