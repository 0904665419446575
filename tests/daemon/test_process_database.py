"""A daemon and its database: away, refused, and files that a reload treats otherwise."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import closing
from pathlib import Path

from crmd.crm.database.database import Database
from crmd.crm.schema import SCHEMA
from crmd.errors import ExitCode
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.reload import reload
from tests.support.wait import HANG_S

PASSWORD = "correct horse"
AUTH = f'[auth]\npassword = "{PASSWORD}"\n'
HEADERS = {"Authorization": "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()}


def upload(daemon: DaemonProcess, data: bytes) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}/api/v1/files", data, HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_database_that_is_away_keeps_nothing_else_from_working(daemons: Daemons) -> None:
    daemon = daemons.start(config=AUTH + '[database]\nurl = "postgresql://crm:geheim@127.0.0.1:1/crm"')
    assert daemon.get("/health").json["status"] == "ok"
    daemon.add(5)
    daemon.wait_effects("done", 5)
    answer = daemon.get("/api/v1/contacts", headers=HEADERS)
    assert answer.status == 503
    assert "127.0.0.1:1" in answer.json["detail"]
    told = [one["level"] for one in daemon.log_records() if one["logger"] == "crmd.records.database"]
    assert told == ["warning"]
    assert daemon.stop() < HANG_S
    assert "geheim" not in daemon.log() + answer.text


def test_a_database_of_a_newer_crmd_is_refused(daemons: Daemons) -> None:
    daemon = daemons.make()
    daemon.state.mkdir(mode=0o700)

    async def make() -> None:
        database = Database("", SCHEMA, folder=daemon.state)
        await database.start()
        await database.stop()

    asyncio.run(make())
    path = daemon.state / "records.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE crmd_version SET version_num = '9001'")
    daemon.launch()
    assert daemon.wait_end() == ExitCode.CONFIG
    line = daemon.log().splitlines()[-1]
    assert f"{path}: the database is at version 9001" in line
    assert "run the newer crmd" in line


def test_files_are_kept_over_a_restart_and_a_reload_changes_their_limit(daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.start(config=AUTH, notify=True)
    status, kept = upload(daemon, b"x" * 2_000)
    assert status == 201
    daemon.configure(config=AUTH + f'[files]\nmax_bytes = 1000\nfolder = "{tmp_path}/other"')
    assert reload(daemon) == "the configuration is in force; at the next start: files.folder"
    assert upload(daemon, b"x" * 2_000)[0] == 413
    assert upload(daemon, b"x" * 1_000)[0] == 201
    daemon.stop()
    daemon.configure(config=AUTH)
    daemon.start()
    found = daemon.get(f"/api/v1/files/{kept['id']}", headers=HEADERS)
    assert (found.status, found.text) == (200, "x" * 2_000)
    modes = {path.stat().st_mode & 0o777 for path in (daemon.state / "files").iterdir()}
    assert modes == {0o600}
    daemon.stop()
