"""What both revisions are given to do."""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from bench.daemon import Program, daemon
from bench.model import Figures
from bench.peers import Peer
from bench.reading import Phase, read
from bench.testbed import Testbed
from bench.trial import PROJECT

LOAD = Path(__file__).parent / "load"
ONE = ("bench",)
TEN = tuple(f"bench{number}" for number in range(10))
QUEUE = '[queues.{name}]\nconcurrency = {concurrency}\nhandlers = ["compared_jobs"]\n'
COUNTERS = "crmd:q:{name}:counters"
"""Its field `completed` counts the completed jobs; the same in all versions."""
PAYLOAD = json.loads((PROJECT / "bench" / "sample.json").read_text(encoding="utf-8"))["payload"]

PROCESSED = 80_000
WARM_SHARE = 0.1
"""Of the jobs: done before the meters are read."""
ADDED = 50_000
PICKED_UP = 800
EVERY_S = 0.01
POLL_S = 0.01
SETTLE_S = 1.0
"""After a start, before the first job of a lightly loaded daemon."""
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the two revisions."""

    name: str
    program: Program

    @property
    def producer(self) -> Peer:
        """What adds jobs with its client."""
        return Peer(self.name, (str(self.program.python), str(LOAD / "producer.py")))


Workload = Callable[[Testbed, Contender], Figures]
"""Runs once and gives its figures."""


def all_workloads(size: float) -> Mapping[str, Workload]:
    """By name; `size` is the share of the full number of jobs."""
    jobs, added, picked_up = (max(100, round(count * size)) for count in (PROCESSED, ADDED, PICKED_UP))
    return {
        "process10": partial(process, jobs=jobs, concurrency=10),
        "process100": partial(process, jobs=jobs, concurrency=100),
        "keyed100": partial(process, jobs=jobs, concurrency=100, keyed=True),
        "ten": partial(process, jobs=jobs, concurrency=10, queues=TEN),
        "add": partial(add, jobs=added),
        "addkeyed": partial(add, jobs=added, keyed=True),
        "bulk": partial(add_bulk, jobs=jobs),
        "pickup": partial(pickup, jobs=picked_up),
    }


TITLES = {
    "process10": "waiting jobs, one queue, concurrency 10",
    "process100": "waiting jobs, one queue, concurrency 100",
    "keyed100": "waiting jobs with keys of their own, concurrency 100",
    "ten": "waiting jobs, ten queues, concurrency 10 each",
    "add": "adding, each job in a call, ten at a time",
    "addkeyed": "the same with keys of their own",
    "bulk": "adding, a thousand jobs in a call",
    "pickup": "a job about every 10 ms, daemon otherwise idle",
}


def process(
    testbed: Testbed,
    contender: Contender,
    jobs: int,
    concurrency: int,
    keyed: bool = False,
    queues: Sequence[str] = ONE,
) -> Figures:
    """A daemon starts on waiting jobs; measured from the first tenth to the last one."""
    testbed.clean()
    testbed.run(contender.producer, "many", jobs=jobs, keyed=keyed, payload=PAYLOAD, queues=queues)
    config = "".join(QUEUE.format(name=name, concurrency=concurrency) for name in queues)
    with daemon(testbed.url(), config, contender.program) as made:
        began = _wait_completed(testbed, round(jobs * WARM_SHARE), queues)
        begin = read(testbed.store, made.pid)
        _wait_completed(testbed, jobs, queues)
        return _figures(begin.until(read(testbed.store, made.pid)), jobs - began)


def add(testbed: Testbed, contender: Contender, jobs: int, keyed: bool = False) -> Figures:
    """Nobody works; the producer is what is measured."""
    testbed.clean()
    outcome = testbed.run(contender.producer, "single", jobs=jobs, keyed=keyed, payload=PAYLOAD)
    return _figures(outcome.phases["add"], jobs)


def add_bulk(testbed: Testbed, contender: Contender, jobs: int) -> Figures:
    """As `add`, a thousand jobs in a call."""
    testbed.clean()
    outcome = testbed.run(contender.producer, "many", jobs=jobs, keyed=False, payload=PAYLOAD, queues=ONE)
    return _figures(outcome.phases["add"], jobs)


def pickup(testbed: Testbed, contender: Contender, jobs: int) -> Figures:
    """From before the call that adds to the first line of the handler."""
    testbed.clean()
    with tempfile.TemporaryDirectory(prefix="crmd-compare-") as folder:
        file = Path(folder) / "late"
        program = contender.program.with_environ(COMPARE_LATE_FILE=str(file))
        with daemon(testbed.url(), QUEUE.format(name="bench", concurrency=10), program) as made:
            time.sleep(SETTLE_S)
            begin = read(testbed.store, made.pid)
            testbed.run(contender.producer, "steady", jobs=jobs, every=EVERY_S)
            _wait_completed(testbed, jobs)
            phase = begin.until(read(testbed.store, made.pid))
        late = sorted(one for (one,) in struct.iter_unpack("<d", file.read_bytes()))
    figures = _figures(phase, jobs)
    return {"p50_ms": late[len(late) // 2], "p99_ms": late[int(len(late) * 0.99)], **figures}


def _figures(phase: Phase, jobs: int) -> Figures:
    return {
        "rate": jobs / phase.seconds,
        "own_us": phase.cpu_s / jobs * 1e6,
        "store_us": phase.store_cpu_s / jobs * 1e6,
        "trips": phase.trips / jobs,
        "others": phase.others,
    }


def _wait_completed(testbed: Testbed, count: int, queues: Sequence[str] = ONE) -> int:
    """How many jobs are completed, once there are so many."""
    deadline = time.monotonic() + TIMEOUT_S
    while (completed := sum(_completed(testbed, queue) for queue in queues)) < count:
        if time.monotonic() > deadline:
            sys.exit(f"only {completed:,} of {count:,} jobs were completed in {TIMEOUT_S:g} s")
        time.sleep(POLL_S)
    return completed


def _completed(testbed: Testbed, queue: str) -> int:
    return int(cast(bytes | None, testbed.store.hget(COUNTERS.format(name=queue), "completed")) or 0)
