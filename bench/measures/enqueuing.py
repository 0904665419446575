"""How fast jobs are added."""

from __future__ import annotations

from functools import partial

from bench.measures.rates import COSTS, OTHERS, RATE, SCRIPT, per_job
from bench.model import Column, Figures, Measure, Scale
from bench.peers import Peer, Peers
from bench.testbed import Testbed

ADDED = 10_000
ADDED_IN_BULK = 30_000
WARM = 500


def one_by_one(peers: Peers, scale: Scale) -> Measure:
    """One producer, ten tasks at a time."""
    run = partial(_add, jobs=scale.count(ADDED))
    subjects = {name: partial(run, peer=peer) for name, peer in peers.found.items()}
    title = "Adding one by one, awaited: one producer, 10 tasks at a time"
    return Measure("add", title, (RATE, *COSTS, OTHERS), subjects, core=True)


def in_bulk(peers: Peers, scale: Scale) -> Measure:
    """A thousand jobs a call."""
    run = partial(_bulk, jobs=scale.count(ADDED_IN_BULK))
    subjects = {name: partial(run, peer=peer) for name, peer in peers.found.items() if name != "saq"}
    columns = (RATE, *COSTS, Column("memory", "stored bytes/job"), SCRIPT, OTHERS)
    return Measure("bulk", "Adding in bulk: 1,000 jobs a call", columns, subjects, core=True)


def _add(testbed: Testbed, peer: Peer, jobs: int) -> Figures:
    testbed.clean()
    outcome = testbed.run(peer, "add", jobs=jobs, warm=WARM)
    return per_job(outcome.phases["add"], jobs)


def _bulk(testbed: Testbed, peer: Peer, jobs: int) -> Figures:
    testbed.clean()
    phase = testbed.run(peer, "bulk", jobs=jobs, warm=WARM).phases["bulk"]
    return per_job(phase, jobs) | {"memory": phase.memory / jobs, "script_ms": testbed.longest_script_ms()}
