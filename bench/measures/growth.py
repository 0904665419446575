"""Whether much that waits makes the rest slower."""

from __future__ import annotations

from functools import partial
from typing import cast

from redis import Redis

from bench.measures.rates import OTHERS, RATE, SCRIPT, STORE_US, process
from bench.model import Figures, Measure, Scale, Subject
from bench.peers import Peer, Peers
from bench.testbed import Testbed
from crmd.engine.store.keys import QueueKeys

JOBS = 20_000
FEW = 10_000
"""Waiting jobs of what the others are compared with, when the measured ones are done."""
MANY = 1_000_000
DELAYED = 100_000
DUE_IN_S = 4.0
FULL_DATABASE = 1
"""Filled once for all rounds; database 0 is emptied before each trial."""


def growth(peers: Peers, scale: Scale) -> Measure:
    """Concurrency 100, on stores that hold more and more."""
    crmd, many = peers.found["crmd"], scale.count(MANY)
    run = partial(process, peer=crmd, concurrency=100)
    few = partial(run, jobs=scale.count(JOBS), waiting=FEW)
    delayed = scale.count(DELAYED)
    due = round(delayed / 1.1)
    subjects: dict[str, Subject] = {
        f"{FEW:,} waiting": few,
        f"{many:,} waiting": partial(_among_many, jobs=scale.count(JOBS), peer=crmd),
        f"{delayed:,} delayed": partial(few, delayed=delayed),
        # As many, not delayed: the longer a run, the more finished jobs it has to delete.
        f"{delayed:,} added at once": partial(run, jobs=due),
        f"{delayed:,} due at once": partial(run, jobs=due, due_in=DUE_IN_S),
    }

    def fill(testbed: Testbed) -> None:
        testbed.clean()
        testbed.run(crmd, "stock", database=FULL_DATABASE, jobs=many)

    def empty(testbed: Testbed) -> None:
        testbed.store.flushall()

    columns = (RATE, STORE_US, SCRIPT, OTHERS)
    title = "Growth: crmd at concurrency 100, by what else is in the store"
    return Measure("growth", title, columns, subjects, prepare=fill, tidy=empty)


def _among_many(testbed: Testbed, jobs: int, peer: Peer) -> Figures:
    """Without the finished jobs of the round before: the others begin with none, and so have fewer to delete."""
    completed = QueueKeys("bench").completed
    with Redis.from_url(testbed.url(FULL_DATABASE)) as store:
        finished = cast(list[bytes], store.zrange(completed, 0, -1))
        for at in range(0, len(finished), 1000):
            store.unlink(*finished[at : at + 1000])
        store.delete(completed)
    return process(testbed, peer, jobs, concurrency=100, database=FULL_DATABASE)
