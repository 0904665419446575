"""The path of a job as the architecture page draws it, compared with the files that one job really passes."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

import crmd
from crmd.client.over_store import Client
from crmd.engine.admin.views import State
from crmd.engine.settings import QueueSettings
from crmd.engine.worker.worker import QueueWorker
from crmd.jobs import JobContext, JobSpec
from tests.support.engine_harness import engine_harness
from tests.support.pages import PROJECT, Page
from tests.support.wait import wait_until

MOST_FILES = 15
TRIPS = {"settle", "claim", "settle_and_claim"}
"""Whether a trip claims while it settles depends on the moment."""
PACKAGE = Path(crmd.__file__).parent


class Greeting(BaseModel):
    """What the job is given."""

    name: str


class Trace:
    """Notes the files of crmd whose functions are called, in all threads, until the store has the result."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.scripts: set[str] = set()
        self.stored = threading.Event()
        self._on = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what this thread does, and those that begin within."""
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            self._on = False
            sys.setprofile(None)
            threading.setprofile(None)

    def begin(self) -> None:
        """Records from here on."""
        self._on = True

    def _called(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self._on:
            return
        if frame.f_code is QueueWorker._note_written.__code__:  # the store has answered
            self._on = False
            self.stored.set()
            return
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            self.files.add(path.relative_to(PACKAGE).as_posix())
            if frame.f_code.co_name == "call" and path.name == "client.py" and "name" in frame.f_locals:
                self.scripts.add(frame.f_locals["name"])


async def greet(_: JobContext, payload: Greeting) -> str:
    return f"hello {payload.name}"


async def test_a_job_passes_the_files_that_the_page_lists_and_no_others(store_url: str) -> None:
    trace = Trace()
    async with engine_harness(store_url, QueueSettings("notification")) as r:
        r.handle_spec("notification", JobSpec("greet", "notification", greet, Greeting))
        pool = await r.start_pool()
        worker = pool.workers["notification"]
        await pool.tick.stop()  # what a daemon does every second is no part of a job's path
        await pool.wake_listener.ready.wait()  # what it hears first makes every worker claim
        await wait_until(lambda: worker._peek._connection is not None and worker._peek._wanted.is_set(), 5)
        with trace.recording(), Client(store_url) as client:
            trace.begin()
            added = await asyncio.to_thread(client.enqueue, "notification", "greet", {"name": "ann"})
            await asyncio.to_thread(trace.stored.wait, 5)
        view = await r.inspector.job("notification", added.key)
    assert (view.state, view.result) == (State.COMPLETED, "hello ann")
    assert trace.files == listed(r"[a-z_/]+\.py")
    assert len(trace.files) <= MOST_FILES
    assert trace.scripts & TRIPS
    assert {f"{name}.lua" for name in with_parts(trace.scripts | TRIPS)} == listed(r"[a-z_]+\.lua")


def listed(kind: str) -> set[str]:
    """The files of that kind in the tables of the page."""
    rows = Page(PROJECT / "docs/explanation/architecture.md").section("A job's path")
    firsts = (row.split("|")[1] for row in rows.splitlines() if row.startswith("| `"))
    return {name for first in firsts for name in re.findall(f"`({kind})`", first)}


def with_parts(scripts: set[str]) -> set[str]:
    """Scripts and the files that they are put together from."""
    found, new = set[str](), set(scripts)
    while new:
        found |= new
        texts = [(PACKAGE / f"engine/store/lua/{name}.lua").read_text(encoding="utf-8") for name in new]
        new = {part for text in texts for part in re.findall(r"^--@include (\w+)$", text, re.MULTILINE)} - found
    return found
