"""How the cost of jobs is taken from a phase of a trial."""

from __future__ import annotations

from bench.model import Column, Figures
from bench.peers import Peer
from bench.reading import Phase
from bench.testbed import Testbed

RATE = Column("rate", "jobs/s")
STORE_US = Column("store_us", "store us/job", 1)
COSTS = (
    Column("cpu_us", "own us/job", 1),
    STORE_US,
    Column("commands", "commands/job", 1),
    Column("trips", "trips/job", 2),
    Column("bytes", "bytes/job"),
)
SCRIPT = Column("script_ms", "longest script ms", 1)
OTHERS = Column("others", "other CPUs", 2)
"""Processors that others used meanwhile; much of it says that a round was disturbed."""


def per_job(phase: Phase, jobs: int) -> Figures:
    """Rate, and costs of one job."""
    return {
        "rate": jobs / phase.seconds,
        "cpu_us": phase.cpu_s / jobs * 1e6,
        "store_us": phase.store_cpu_s / jobs * 1e6,
        "commands": phase.commands / jobs,
        "trips": phase.trips / jobs,
        "bytes": phase.traffic / jobs,
        "others": phase.others,
    }


def process(testbed: Testbed, peer: Peer, jobs: int, *, database: int = 0, **options: object) -> Figures:
    """One run of the task `process` on an empty database 0, a tenth more jobs before it to warm up."""
    testbed.clean()
    outcome = testbed.run(peer, "process", database=database, jobs=jobs, warm=jobs // 10, **options)
    return per_job(outcome.phases["process"], jobs) | {"script_ms": testbed.longest_script_ms()}
