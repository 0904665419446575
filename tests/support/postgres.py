"""A PostgreSQL cluster for the tests of one process: made in a temporary folder, on a unix socket."""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from crmd.crm.database.database import Database
from tests.support.wait import wait_until, wait_until_sync

START_SECONDS = 30.0
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
USER = "crmd"
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class Postgres:
    """One cluster. Tests may stop and start it; its databases stay."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Not pytest's tmp_path: a unix socket's path may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="crmd-pg-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def create(self) -> None:
        """Makes the cluster."""
        if os.geteuid() == 0:
            account = _account()
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        command = ["initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(
            [*_as_owner(), str(self._binaries / command[0]), *command[1:], "--no-sync"],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_as_owner(),
                    str(self._binaries / "postgres"),
                    *("-D", str(self._data), "-k", str(self.folder), *options),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until_sync(self.answers, START_SECONDS, f"PostgreSQL serves; see {self.folder}/log")

    def stop(self) -> None:
        """Ends the server at once, connections and all; its data stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def close(self) -> None:
        """Ends the server and deletes the cluster."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def answers(self) -> bool:
        """Whether the server takes connections."""
        assert self._process is not None
        assert self._process.poll() is None, f"PostgreSQL ended: {(self.folder / 'log').read_text()}"
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", str(self.folder), "-d", "postgres"]
        return subprocess.run(asked).returncode == 0

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Makes a database for one test; returns its name."""
        name = f"test_{next(self._numbers)}"
        self.sql(f'CREATE DATABASE "{name}"')
        return name

    @functools.cached_property
    def shared_database(self) -> str:
        """A database that is made once."""
        self.sql('CREATE DATABASE "shared"')
        return "shared"

    def drop(self, database: str) -> None:
        """Deletes a database, whoever uses it."""
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Runs one statement and returns what it printed."""
        return self._psql(database, "-c", statement)

    def load(self, file: Path, database: str) -> None:
        """Runs a file of statements."""
        self._psql(database, "-f", str(file))

    def _psql(self, database: str, *arguments: str) -> str:
        asked = subprocess.run(
            [
                str(self._binaries / "psql"),
                *("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
                *("-h", str(self.folder), "-U", USER, "-d", database, *arguments),
            ],
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.strip()


def find_binaries() -> Path | None:
    """The folder of the newest installed PostgreSQL server; None where there is none."""
    found = [folder for pattern in FOLDERS for folder in Path("/").glob(pattern[1:])]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    whole = [
        folder for folder in found if all((folder / name).exists() for name in ("initdb", "postgres", "psql"))
    ]
    return max(whole, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))], default=None)


def reason_to_skip() -> str | None:
    """Why there can be no PostgreSQL here; None where there can."""
    if find_binaries() is None:
        return "PostgreSQL's server is not installed (Debian: postgresql)"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed (Debian: util-linux); it ties the test server to the life of the tests"
    return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The test process's cluster; skips where PostgreSQL is not installed."""
    reason, binaries = reason_to_skip(), find_binaries()
    if reason or binaries is None:
        pytest.skip(reason or "")
    server = Postgres(binaries)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.close()


async def waiting_for_locks(database: Database, count: int) -> None:
    """Returns once so many transactions of a PostgreSQL database wait for the locks of others."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def are() -> bool:
        async with database.reading() as s:
            return bool(await s.scalar(text(asked)) == count)

    await wait_until(are, 10.0, f"{count} transactions wait")


def _as_owner() -> list[str]:
    """Runs what follows as nobody where we are root, which PostgreSQL refuses; it ends with the tests."""
    command = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() == 0:
        account = _account()
        command += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return command


def _account() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")
