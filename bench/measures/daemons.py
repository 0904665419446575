"""Real daemons: what one costs when idle and when jobs wait, and what several reach together."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.daemon import daemon
from bench.model import Column, Figures, Measure, Scale, Subject
from bench.peers import Peer, Peers
from bench.reading import read, resident_bytes, store_info
from bench.testbed import Testbed
from bench.trials.peer import PAYLOAD
from crmd import AsyncClient, NewJob

SETTLE_S = 1.5
"""After a start, before an idle process is measured."""
WINDOW_S = 10.0
MIB = 1024 * 1024
WAITING = 100_000
CHUNK = 1_000
SCALED = 40_000
QUEUE = '[queues.bench]\nconcurrency = 100\nhandlers = ["bench.trials.handlers"]\n'


def idle(peers: Peers, scale: Scale) -> Measure:
    """Ten queues and nothing to do."""
    window_s = WINDOW_S * min(1.0, scale.size)
    subjects: dict[str, Subject] = {"crmd": partial(_idle_daemon, window_s=window_s)}
    for name in ("saq", "bull"):
        if name in peers.found:
            subjects[name] = partial(_idle_peer, peer=peers.found[name], window_s=window_s)
    columns = (
        Column("trips", "trips/s", 1),
        Column("commands", "commands/s", 1),
        Column("connections", "connections"),
        Column("cpu_percent", "CPU %", 2),
        Column("store_cpu_percent", "store CPU %", 2),
        Column("resident_mib", "resident MiB", 1),
    )
    return Measure("idle", f"Idle with ten queues, over {window_s:g} s", columns, subjects, core=True)


def loaded(peers: Peers, scale: Scale) -> Measure:
    """Start to ready, and memory with waiting jobs."""
    count = scale.count(WAITING)
    columns = (
        Column("ready_s", "start to ready s", 2),
        Column("idle_mib", "idle MiB", 1),
        Column("loaded_mib", f"MiB, {count:,} waiting", 1),
        Column("store_idle_mib", "store idle MiB", 1),
        Column("store_loaded_mib", f"store MiB, {count:,} waiting", 1),
    )
    subjects: dict[str, Subject] = {
        "crmd": partial(_loaded, crmd=peers.found["crmd"], count=count),
        "crmd, embedded store": _embedded_start,
        f"crmd, embedded store, again with {WAITING:,} waiting": partial(_embedded_restart, count=WAITING),
    }
    return Measure("memory", "One daemon: start to ready, and memory", columns, subjects)


def scaling(peers: Peers, scale: Scale) -> Measure:
    """One, two and four daemons on one store."""
    run = partial(_scaled, crmd=peers.found["crmd"], jobs=scale.count(SCALED))
    subjects = {f"{count} daemon{'s'[: count > 1]}": partial(run, daemons=count) for count in (1, 2, 4)}
    columns = (Column("rate", "jobs/s"), Column("store_us", "store us/job", 1))
    title = "Daemons on one store, one queue, concurrency 100 each (all share this machine's processors)"
    return Measure("scaling", title, columns, subjects)


def _idle_daemon(testbed: Testbed, window_s: float) -> Figures:
    testbed.clean()
    with _connections(testbed) as connections, daemon(testbed.url()) as made:
        return _watch(testbed, made.pid, window_s) | {"connections": next(connections)}


def _idle_peer(testbed: Testbed, peer: Peer, window_s: float) -> Figures:
    testbed.clean()
    with _connections(testbed) as connections, testbed.trial(peer, "idle", queues=10) as trial:
        trial.expect("ready")
        return _watch(testbed, trial.pid, window_s) | {"connections": next(connections)}


def _watch(testbed: Testbed, pid: int, window_s: float) -> Figures:
    time.sleep(SETTLE_S)
    begin = read(testbed.store, pid)
    time.sleep(window_s)
    phase = begin.until(read(testbed.store, pid))
    return {
        "trips": (phase.trips - 1) / phase.seconds,  # one is our own look
        "commands": (phase.commands - 1) / phase.seconds,
        "cpu_percent": phase.cpu_s / phase.seconds * 100,
        "store_cpu_percent": phase.store_cpu_s / phase.seconds * 100,
        "resident_mib": resident_bytes(pid) / MIB,
    }


@contextmanager
def _connections(testbed: Testbed) -> Iterator[Iterator[int]]:
    """Each value is how many connections the store has now beyond those at the entry."""
    before: int = store_info(testbed.store, "clients")["connected_clients"]

    def more() -> Iterator[int]:
        while True:
            yield store_info(testbed.store, "clients")["connected_clients"] - before

    yield more()


def _loaded(testbed: Testbed, crmd: Peer, count: int) -> Figures:
    testbed.clean()
    with daemon(testbed.url(), QUEUE) as made:
        time.sleep(SETTLE_S)
        idle_bytes, store_idle = resident_bytes(made.pid), _used(testbed)
        testbed.run(crmd, "stock", jobs=count, paused=True)
        time.sleep(SETTLE_S)
        return {
            "ready_s": made.ready_s,
            "idle_mib": idle_bytes / MIB,
            "loaded_mib": resident_bytes(made.pid) / MIB,
            "store_idle_mib": store_idle / MIB,
            "store_loaded_mib": _used(testbed) / MIB,
        }


def _embedded_start(testbed: Testbed) -> Figures:
    with daemon("") as made:
        time.sleep(SETTLE_S)
        return {"ready_s": made.ready_s, "idle_mib": resident_bytes(made.pid) / MIB}


def _embedded_restart(_lab: Testbed, count: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="crmd-bench-") as name:
        state = Path(name) / "state"
        with daemon("", state=state) as made:
            asyncio.run(_stock(made.store_url, count))
        with daemon("", state=state) as made:
            time.sleep(SETTLE_S)
            return {"ready_s": made.ready_s, "loaded_mib": resident_bytes(made.pid) / MIB}


async def _stock(url: str, count: int) -> None:
    """Waiting jobs of a queue that the daemon does not run."""
    async with AsyncClient(url) as client:
        for _ in range(0, count, CHUNK):
            await client.enqueue_many("bench", [NewJob("work", PAYLOAD)] * CHUNK)


def _used(testbed: Testbed) -> int:
    used: int = store_info(testbed.store, "memory")["used_memory"]
    return used


def _scaled(testbed: Testbed, crmd: Peer, jobs: int, daemons: int) -> Figures:
    testbed.clean()
    with ExitStack() as stack:
        for _ in range(daemons):
            stack.enter_context(daemon(testbed.url(), QUEUE))
        testbed.run(crmd, "stock", jobs=jobs, paused=True)
        phase = testbed.run(crmd, "drain", jobs=jobs).phases["drain"]
    return {"rate": jobs / phase.seconds, "store_us": phase.store_cpu_s / jobs * 1e6}
