"""How soon a job begins. Producer and worker are processes of their own."""

from __future__ import annotations

from functools import partial

from bench.model import Column, Figures, Measure, Scale, Subject
from bench.peers import Peer, Peers
from bench.testbed import Testbed

PICKED_UP = 300
EVERY_S = 0.02
DELAYED = 200
SPREAD_S = 2.5
COLUMNS = (Column("p50_ms", "p50 ms", 2), Column("p99_ms", "p99 ms", 2), Column("max_ms", "max ms", 2))


def pickup(peers: Peers, scale: Scale) -> Measure:
    """An idle worker, a job every 20 ms."""
    subjects = _pairs(peers, partial(_late, jobs=scale.count(PICKED_UP), every=EVERY_S))
    title = "Pickup: from before the call that adds to the handler's start; idle worker, a job every 20 ms"
    return Measure("pickup", title, COLUMNS, subjects, core=True)


def lateness(peers: Peers, scale: Scale) -> Measure:
    """Delayed jobs, against the time they are due."""
    subjects = _pairs(peers, partial(_late, jobs=scale.count(DELAYED), spread=SPREAD_S))
    title = f"Lateness: {scale.count(DELAYED)} delayed jobs, due within {SPREAD_S:g} s"
    return Measure("lateness", title, COLUMNS, subjects)


def _pairs(peers: Peers, run: partial[Figures]) -> dict[str, Subject]:
    found = peers.found
    subjects: dict[str, Subject] = {
        name: partial(run, worker=found[name], producer=found[name])
        for name in ("crmd", "saq", "bull")
        if name in found
    }
    subjects["crmd, plain SAQ producer"] = partial(run, worker=found["crmd"], producer=found["saq"])
    return dict(sorted(subjects.items()))


def _late(
    testbed: Testbed, worker: Peer, producer: Peer, jobs: int, every: float = 0.0, spread: float = 0.0
) -> Figures:
    testbed.clean()
    with testbed.trial(worker, "listen", jobs=jobs) as listening:
        listening.expect("ready")
        testbed.run(producer, "produce", jobs=jobs, every=every, spread=spread)
        late = sorted(listening.finish().result["late_ms"])
    return {"p50_ms": _quantile(late, 0.5), "p99_ms": _quantile(late, 0.99), "max_ms": late[-1]}


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
