"""Calls that come together share one write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from crmd.engine.group_commit import GroupCommit
from tests.support.wait import wait_until

BAD = -1


class Writer:
    """Writes numbers and answers their doubles; one of them is refused. It can be held."""

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def write(self, items: Sequence[int]) -> list[int]:
        self.writes.append(list(items))
        await self.open.wait()
        if self.error:
            raise self.error
        if BAD in items:
            raise ValueError("refused")
        return [2 * item for item in items]


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def group(writer: Writer) -> GroupCommit[int, int]:
    return GroupCommit(writer.write, 3, lambda error: isinstance(error, ValueError))


async def test_calls_of_one_moment_share_a_write_up_to_the_bound(
    writer: Writer, group: GroupCommit[int, int]
) -> None:
    assert await asyncio.gather(*(group.call(n) for n in range(7))) == [2 * n for n in range(7)]
    assert writer.writes == [[0, 1, 2], [3, 4, 5], [6]]


async def test_what_comes_during_a_write_goes_into_the_next(writer: Writer, group: GroupCommit[int, int]) -> None:
    writer.open.clear()
    first = asyncio.create_task(group.call(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(group.call(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    assert writer.writes == [[1]]
    writer.open.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert writer.writes == [[1], [2, 3]]


async def test_the_fault_of_one_is_not_that_of_the_others(writer: Writer, group: GroupCommit[int, int]) -> None:
    answers = await asyncio.gather(*(group.call(n) for n in (1, BAD, 3)), return_exceptions=True)
    assert [answers[0], str(answers[1]), answers[2]] == [2, "refused", 6]
    assert writer.writes == [[1, BAD, 3], [1], [BAD], [3]]


async def test_a_fault_of_all_is_told_to_each_and_not_repeated(
    writer: Writer, group: GroupCommit[int, int]
) -> None:
    writer.error = OSError("unavailable")
    answers = await asyncio.gather(*(group.call(n) for n in (1, 2)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["unavailable", "unavailable"]
    assert answers[0] is not answers[1]
    assert writer.writes == [[1, 2]]
    writer.error = None
    assert await group.call(3) == 6


async def test_a_caller_that_left_before_the_write_is_left_out(
    writer: Writer, group: GroupCommit[int, int]
) -> None:
    writer.open.clear()
    first = asyncio.create_task(group.call(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving, staying = (asyncio.create_task(group.call(n)) for n in (2, 3))
    await asyncio.sleep(0)
    leaving.cancel()
    writer.open.set()
    assert [await first, await staying] == [2, 6]
    assert writer.writes == [[1], [3]]


async def test_with_more_writes_at_once_none_waits_for_another(writer: Writer) -> None:
    group = GroupCommit(writer.write, 3, lambda _: False, writes=2)
    writer.open.clear()
    asked = [asyncio.create_task(group.call(n)) for n in range(7)]
    await wait_until(lambda: len(writer.writes) == 2)
    assert writer.writes == [[0, 1, 2], [3, 4, 5]]
    writer.open.set()
    assert await asyncio.gather(*asked) == [2 * n for n in range(7)]
    assert writer.writes[2:] == [[6]]


async def test_a_write_takes_what_fits_by_size_and_at_least_one(writer: Writer) -> None:
    group = GroupCommit(writer.write, 3, lambda _: False, size=int)
    await asyncio.gather(*(group.call(n) for n in (1, 2, 2, 5, 1)))
    assert writer.writes == [[1, 2], [2], [5], [1]]
