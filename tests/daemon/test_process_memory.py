"""What an idle daemon keeps resident."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.support.daemon import PROJECT, QUEUE, Daemons, resident_bytes
from tests.support.wait import wait_until_sync

ALL_QUEUES_MIB = 94.0
"""Some 92.5 are used; one heavy library that a handler imports at the top of its module goes beyond."""
OWN_QUEUES_MIB = 66.0
"""Some 64.5 are used by a daemon that runs no queue of a feature."""

_LOADED = "import sys, crmd.cli.main, crmd.daemon.supervisor, crmd.daemon.build{more}; print(*sys.modules)"
LAZY = {
    *("alembic", "apprise", "asyncpg", "aiosmtplib", "charset_normalizer", "jinja2", "phonenumbers"),
    *("python_calamine", "sqlalchemy.dialects.postgresql", "xlsxwriter"),
}
"""Loaded where they are first used."""


@pytest.mark.parametrize(
    ("arguments", "most"), [([], ALL_QUEUES_MIB), (["--queues", QUEUE], OWN_QUEUES_MIB)], ids=["all", "own"]
)
def test_idle_daemon_stays_small(daemons: Daemons, arguments: Sequence[str], most: float) -> None:
    daemon = daemons.start(arguments=arguments)  # makes the tables
    daemon.stop()
    daemon.start()
    wait_until_sync(lambda: daemon.get("/metrics").status != 0, 5.0, "a first request is answered")

    assert resident_bytes(daemon.pid) / 1024**2 <= most


def loaded(more: str = "") -> set[str]:
    program = _LOADED.format(more=more)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_heavy_libraries_are_not_loaded_by_the_start() -> None:
    modules = loaded(", crmd.daemon.resources")
    assert "sqlalchemy.orm" in modules
    assert LAZY & modules == set()


def test_the_engine_loads_no_feature() -> None:
    assert {"sqlalchemy", "crmd.crm.database", "crmd.crm.messages", "crmd.daemon.resources"} & loaded() == set()
