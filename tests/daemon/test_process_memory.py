"""What an idle daemon keeps resident."""

from __future__ import annotations

import subprocess
import sys

from tests.support.daemon import PROJECT, Daemons, resident_bytes
from tests.support.wait import wait_until_sync

RESIDENT_MIB = 95.0
"""Some 91 are used; one heavy library that a handler imports at the top of its module goes beyond."""

_LOADED = "import sys, crmd.cli.main, crmd.daemon.supervisor, crmd.daemon.build; print(*sys.modules)"
LAZY = {
    *("alembic", "apprise", "asyncpg", "aiosmtplib", "charset_normalizer", "jinja2", "phonenumbers"),
    *("python_calamine", "sqlalchemy.dialects.postgresql", "xlsxwriter"),
}
"""Loaded where they are first used."""


def test_idle_daemon_stays_small(daemons: Daemons) -> None:
    daemon = daemons.start()  # makes the tables
    daemon.stop()
    daemon.start()
    wait_until_sync(lambda: daemon.get("/metrics").status != 0, 5.0, "a first request is answered")

    assert resident_bytes(daemon.pid) / 1024**2 <= RESIDENT_MIB


def test_heavy_libraries_are_not_loaded_by_the_start() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", _LOADED], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert "sqlalchemy.orm" in printed.split()
    assert LAZY & set(printed.split()) == set()
