"""What can be measured of a peer. Each task exists in `bench/node/tasks.cjs` too, step for step."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.trials.crmd_peer import CrmdPeer
from bench.trials.marks import mark
from bench.trials.peer import PAYLOAD, Options, Payload, Peer

PRODUCERS = 10
DONE_POLL_S = 0.002
DRAINED_POLL_S = 0.02
FIRST_NUMBER = 15_100_000_000
FAR_S = 3600.0

Result = dict[str, Any] | None
Task = Callable[[Peer, Options], Awaitable[Result]]


async def add(peer: Peer, options: Options) -> Result:
    """One producer, ten tasks at a time, each awaits its job before the next."""

    async def produce(count: int) -> None:
        for _ in range(count):
            await peer.add("bench", PAYLOAD)

    async def all_produce(count: int) -> None:
        await asyncio.gather(*(produce(count // PRODUCERS) for _ in range(PRODUCERS)))

    await all_produce(options.warm)
    mark("begin add")
    await all_produce(options.jobs)
    mark("end add")
    return None


async def bulk(peer: Peer, options: Options) -> Result:
    """Jobs in chunks, one call each."""
    await fill(peer, options, options.warm)
    mark("begin bulk")
    await fill(peer, options, options.jobs)
    mark("end bulk")
    return None


async def process(peer: Peer, options: Options) -> Result:
    """From the first job after the warm ones until the system says that all are done."""
    total = options.warm + options.jobs
    if options.delayed:
        await fill(peer, options, options.delayed, time.time() + FAR_S)
    await _fill_for_work(peer, options, total + options.waiting)
    count, reached = 0, asyncio.Event()

    def handled(_: Payload) -> None:
        nonlocal count
        count += 1
        if count == options.warm:
            mark("begin process")
        elif count == total:
            reached.set()

    before = await peer.done()
    await peer.work(handled)
    await reached.wait()
    while await peer.done() - before < total:
        await asyncio.sleep(DONE_POLL_S)
    mark("end process")
    return None


async def listen(peer: Peer, options: Options) -> Result:
    """Works until so many jobs came, and says how late each was, in ms."""
    late: list[float] = []
    enough = asyncio.Event()

    def handled(payload: Payload) -> None:
        late.append((time.time() - payload["at"]) * 1000)
        if len(late) == options.jobs:
            enough.set()

    await peer.work(handled)
    await asyncio.sleep(0.5)
    mark("ready")
    await enough.wait()
    return {"late_ms": late}


async def produce(peer: Peer, options: Options) -> Result:
    """A job every so often to be done at once; or, with `spread`, all at once to be done later."""
    if options.spread:
        for number in range(options.jobs):
            at = time.time() + 0.5 + options.spread * number / options.jobs
            await peer.add("bench", {**PAYLOAD, "at": at}, at)
        return None
    for _ in range(options.jobs):
        await peer.add("bench", {**PAYLOAD, "at": time.time()})
        # Not in step with any timer of the worker.
        await asyncio.sleep(options.every * random.uniform(0.8, 1.2))
    return None


async def idle(peer: Peer, options: Options) -> Result:
    """Workers without work, until standard input ends."""
    await peer.work(lambda _: None)
    mark("ready")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return None


async def stock(peer: Peer, options: Options) -> Result:
    """Leaves jobs in the store for others; with `paused` in a queue that nobody may take from yet."""
    if options.paused:
        assert isinstance(peer, CrmdPeer)
        await peer.control.pause("bench", by="bench")
    await fill(peer, options, options.jobs)
    return None


async def drain(peer: Peer, options: Options) -> Result:
    """Lets the paused queue go, and waits until others have done all its jobs."""
    assert isinstance(peer, CrmdPeer)
    before = await peer.done()
    mark("begin drain")
    await peer.control.resume("bench")
    while await peer.done() - before < options.jobs:
        await asyncio.sleep(DRAINED_POLL_S)
    mark("end drain")
    return None


async def fill(peer: Peer, options: Options, count: int, at: float | None = None) -> None:
    """Adds so many jobs, evenly to all queues."""
    names = options.names
    for start in range(0, count, options.chunk):
        payloads = [_payload(number, options) for number in range(start, min(count, start + options.chunk))]
        for index, name in enumerate(names):
            await peer.add_many(name, payloads[index :: len(names)], at)


async def _fill_for_work(peer: Peer, options: Options, count: int) -> None:
    due = time.time() + options.due_in if options.due_in else None
    await fill(peer, options, count, due)
    if due:
        await asyncio.sleep(max(0.0, due - time.time()))


def _payload(number: int, options: Options) -> Payload:
    if options.recipients == 1:
        return PAYLOAD
    return {**PAYLOAD, "to": f"+49{FIRST_NUMBER + number % options.recipients}"}


TASKS: dict[str, Task] = {
    "add": add,
    "bulk": bulk,
    "process": process,
    "listen": listen,
    "produce": produce,
    "idle": idle,
    "stock": stock,
    "drain": drain,
}
