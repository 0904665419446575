"""All measures, in the order of the report."""

from __future__ import annotations

from bench.measures import daemons, enqueuing, growth, latency, processing
from bench.model import Measure, Scale
from bench.peers import Peers


def all_measures(peers: Peers, scale: Scale) -> list[Measure]:
    """The measures of the peers that are here."""
    return [
        enqueuing.one_by_one(peers, scale),
        enqueuing.in_bulk(peers, scale),
        processing.processing(peers, scale, concurrency=10),
        processing.processing(peers, scale, concurrency=100),
        processing.variants(peers, scale),
        latency.pickup(peers, scale),
        latency.lateness(peers, scale),
        daemons.idle(peers, scale),
        daemons.loaded(peers, scale),
        daemons.scaling(peers, scale),
        growth.growth(peers, scale),
    ]
