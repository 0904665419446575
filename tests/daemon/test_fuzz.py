"""Mutated requests to every route of a real daemon: none is answered with an error of ours."""

from __future__ import annotations

import logging

import pytest

from tests.support.daemon import Daemons, resident_bytes
from tests.support.fuzzing import fuzz, start_options

_log = logging.getLogger(__name__)


@pytest.mark.parametrize(
    ("count", "seed"), [(500, 8), pytest.param(10_000, 16, marks=[pytest.mark.faults, pytest.mark.timeout(600)])]
)
async def test_mutated_requests_are_never_an_error_of_ours(daemons: Daemons, count: int, seed: int) -> None:
    daemon = daemons.start(**start_options())
    outcome = await fuzz(daemon, count, seed)
    statuses = dict(sorted(outcome.statuses.items()))
    grown = outcome.grown_bytes / 2**20
    _log.info("%s; /livez silent for %.0f ms at most; %.1f MiB more", statuses, outcome.silence * 1000, grown)
    assert outcome.broken == []
    assert outcome.statuses.total() >= count
    assert grown < 64
    assert daemon.get("/health").status in (200, 503)
    assert not [record for record in daemon.log_records() if record["level"] == "error"]


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_memory_is_flat_over_rounds_of_mutated_requests(daemons: Daemons) -> None:
    daemon = daemons.start(**start_options())
    resident = []
    for seed in range(5):
        await fuzz(daemon, 5_000, seed)
        resident.append(resident_bytes(daemon.pid) / 2**20)
    _log.info("MiB after each round: %s", ", ".join(f"{one:.1f}" for one in resident))
    assert resident[4] - resident[2] < 10
