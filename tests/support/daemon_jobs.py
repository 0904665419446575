"""Handlers for tests of the daemon as a process. They note what they do in the file `$EFFECTS_FILE`.

The file does not live in the store under test, and each note is one write, so that a kill loses none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel

from crmd import JobContext, job
from tests.support.wait import wait_until

QUEUE = "work"
IMMORTAL_SECONDS = 60.0
"""Longer than any test that kills its daemon."""


class Work(BaseModel):
    """What a test job is to do."""

    seconds: float = 0.0


def note(ctx: JobContext, event: str) -> None:
    """Adds one line to the effects file."""
    line = {
        "event": event,
        "job": ctx.key,
        "attempt": ctx.attempt,
        "delivery": ctx.delivery,
        "pid": os.getpid(),
        "at": time.time(),
    }
    file = os.open(os.environ["EFFECTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@job(queue=QUEUE, payload=Work)
async def work(ctx: JobContext, payload: Work) -> None:
    """Takes a while."""
    note(ctx, "started")
    await asyncio.sleep(payload.seconds)
    note(ctx, "done")


@job(queue=QUEUE, payload=Work)
async def fail(ctx: JobContext, payload: Work) -> None:
    """Fails."""
    note(ctx, "started")
    raise ValueError("as it is told to")


@job(queue=QUEUE, payload=Work)
async def effect(ctx: JobContext, payload: Work) -> None:
    """Does something that cannot be repeated, and takes a while for it."""
    note(ctx, "started")
    await ctx.effect_begun()
    note(ctx, "effect")
    await asyncio.sleep(payload.seconds)
    note(ctx, "done")


@job(queue=QUEUE, payload=Work)
async def stubborn(ctx: JobContext, payload: Work) -> None:
    """Swallows every cancellation, for ever."""
    note(ctx, "started")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note(ctx, "cancelled")


@job(queue=QUEUE, payload=Work)
def deaf(ctx: JobContext, payload: Work) -> None:
    """Runs in a thread, where nothing can reach it."""
    note(ctx, "started")
    time.sleep(payload.seconds)
    note(ctx, "done")


@job(queue=QUEUE, payload=Work)
async def block(ctx: JobContext, payload: Work) -> None:
    """Holds the event loop."""
    note(ctx, "started")
    time.sleep(payload.seconds)  # noqa: ASYNC251 - that is the fault
    note(ctx, "done")


class Die(BaseModel):
    """When a test job is to kill its daemon."""

    sign: str
    """The path of a file, without the number of the delivery that ends it."""


@job(queue=QUEUE, payload=Die)
async def die(ctx: JobContext, payload: Die) -> None:
    """Kills its daemon once the file of its delivery is there."""
    note(ctx, "started")
    await wait_until(Path(f"{payload.sign}{ctx.delivery}").exists, IMMORTAL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
