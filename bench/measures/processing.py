"""How fast jobs are processed, and what each costs."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.measures.rates import COSTS, OTHERS, RATE, SCRIPT, process
from bench.model import Measure, Scale
from bench.peers import Peers

JOBS = {"crmd": 30_000, "saq": 3_000, "bull": 15_000, "bullmq": 10_000}
"""Some two seconds each."""
COLUMNS = (RATE, *COSTS, SCRIPT, OTHERS)
LIMIT = "1000000/s"
KEYED_LIMIT = {"by": "to", "rate": "1000/s", "burst": 100_000}
RECIPIENTS = 1_000
"""So many values, in turn: none comes again before its limit is free."""


def processing(peers: Peers, scale: Scale, concurrency: int) -> Measure:
    """One queue; crmd with a handler of its own, and with a plain SAQ function."""
    subjects = {
        name: partial(process, peer=peer, jobs=scale.count(JOBS[name]), concurrency=concurrency)
        for name, peer in peers.found.items()
    }
    subjects["crmd, plain function"] = partial(subjects["crmd"], plain=True)
    title = f"Processing: one queue, concurrency {concurrency}"
    return Measure(f"process{concurrency}", title, COLUMNS, dict(sorted(subjects.items())), core=True)


def variants(peers: Peers, scale: Scale) -> Measure:
    """What ten queues, and limits that are never reached, cost against one queue at concurrency 100."""
    crmd = partial(process, peer=peers.found["crmd"], jobs=scale.count(JOBS["crmd"]))
    many: dict[str, Any] = {"queues": 10, "concurrency": 10}
    subjects = {
        "crmd, one queue": partial(crmd, concurrency=100),
        "crmd, ten queues": partial(crmd, **many),
        "crmd, rate limit": partial(crmd, concurrency=100, rate_limit=LIMIT),
        "crmd, one queue, 1,000 recipients": partial(crmd, concurrency=100, recipients=RECIPIENTS),
        "crmd, keyed limit": partial(crmd, concurrency=100, recipients=RECIPIENTS, limits=[KEYED_LIMIT]),
    }
    if bull := peers.found.get("bull"):
        subjects["bull, ten queues"] = partial(process, peer=bull, jobs=scale.count(JOBS["bull"]), **many)
    title = "Ten queues (concurrency 10 each), and limits that are never reached (concurrency 100)"
    return Measure("variants", title, COLUMNS, subjects)
