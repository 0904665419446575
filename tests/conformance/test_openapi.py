"""What the daemon answers to requests that are made from its own description, good and bad ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemons, daemons

__all__ = ["daemons"]

PASSWORD = "made for this test"
CHECKS_LEFT_OUT = (
    # What is well-formed may be refused all the same: a cursor that nobody gave out, a flow that never ends.
    "positive_data_acceptance",
)
EVENTS = "/api/v1/events"
"""A stream that does not end."""


def test_no_operation_answers_other_than_described(daemons: Daemons, tmp_path: Path) -> None:
    """A few requests of each; `make faults` sends thousands."""
    check(daemons, tmp_path, "--phases", "fuzzing", "--max-examples", "2")


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2])
def test_no_operation_answers_other_than_described_to_thousands(
    daemons: Daemons, tmp_path: Path, seed: int
) -> None:
    check(daemons, tmp_path, "--phases", "coverage,fuzzing,stateful", "--max-examples", "40", "--seed", str(seed))


def check(daemons: Daemons, folder: Path, *options: str) -> None:
    """Runs schemathesis over every operation of a daemon."""
    daemon = daemons.start(config=f'[auth]\npassword = "{PASSWORD}"')
    config = folder / "schemathesis.toml"
    config.write_text('[parameters]\n"query.wait" = "10ms"\n')
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"http://127.0.0.1:{daemon.port}/api/v1/openapi.json"),
        *("--auth", f"admin:{PASSWORD}", "--exclude-path", EVENTS),
        *("--checks", "all", "--exclude-checks", ",".join(CHECKS_LEFT_OUT), "--warnings", "off"),
        *("--continue-on-failure", "--request-timeout", "20", "--no-color", *options),
    ]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert "No issues found" in found.stdout
    daemon.stop()
