"""The page's own calls, the journal's bounds, and how a sandbox starts and ends."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import pytest

from crmd.config.load import load
from crmd.errors import PortTaken
from crmd.sandbox.journal import MAX_TEXT, WATCHER_BACKLOG, Journal, Kind
from crmd.sandbox.server import Sandbox
from crmd.sandbox.settings import Addresses, SandboxSettings, toml_lines
from tests.sandbox.conftest import ANN, SandboxHarness, Start
from tests.support.wait import wait_until


async def test_the_page_and_its_files_need_nothing_from_elsewhere(harness: SandboxHarness) -> None:
    async with harness.session.get(harness.url) as response:
        page = await response.text()
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    for name in ("sandbox.css", "sandbox.js"):
        assert f"/_sandbox/static/{name}" in page
        async with harness.session.get(f"{harness.url}/_sandbox/static/{name}") as response:
            assert response.status == 200
            assert "://" not in await response.text()
    async with harness.session.get(f"{harness.url}/_sandbox/static/other") as response:
        assert response.status == 404


async def test_the_journal_is_bounded(start: Start) -> None:
    harness = await start(keep=5)
    for n in range(8):
        await harness.send(f"49151123456{n:02}", text={"body": f"{n}" + "x" * 4095})
    kept = (await harness.admin("GET", "/journal?kind=message")).json["entries"]
    assert [entry["text"][0] for entry in kept] == ["3", "4", "5", "6", "7"]
    assert all(len(entry["text"]) == MAX_TEXT + 1 for entry in kept)
    whole = (await harness.admin("GET", "/journal")).json
    assert whole["totals"]["accepted"] == 8
    assert (await harness.admin("GET", "/journal?kind=fax")).status == 422
    await harness.admin("DELETE", "/journal")
    assert (await harness.admin("GET", "/journal")).json["entries"] == []


async def test_changes_are_told_as_they_happen(harness: SandboxHarness) -> None:
    async with harness.session.get(f"{harness.url}/_sandbox/events") as response:
        assert response.content_type == "text/event-stream"
        assert json.loads((await response.content.readline())[6:])["reload"]
        await harness.send()
        while True:
            line = await asyncio.wait_for(response.content.readline(), 5)
            if not line.startswith(b"data: "):
                continue
            change = json.loads(line[6:])
            if "entry" in change and change["entry"]["history"][-1]["status"] == "read":
                break
        assert change["totals"]["read"] == 1
        assert change["callback"]["url"].endswith("/webhooks/whatsapp")
        await harness.sandbox.stop()
        rest = await asyncio.wait_for(response.content.read(), 5)
    assert b"end" not in rest, "stopping ends the stream"


def test_a_slow_watcher_is_told_to_read_everything_anew() -> None:
    journal = Journal(keep=10)
    with journal.watch() as changes:
        for n in range(WATCHER_BACKLOG + 1):
            journal.add(Kind.NOTICE, text=str(n))
        assert changes.qsize() == 2
        assert changes.get_nowait() == {"reload": True}
        assert changes.get_nowait()["entry"]["text"] == str(WATCHER_BACKLOG)
    journal.add(Kind.NOTICE, text="x")
    assert changes.empty()


async def test_pages_of_other_sites_cannot_steer_it(harness: SandboxHarness) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 202), ("none", 202)):
        answer = await harness.admin(
            "POST", "/inbound", {"from": ANN, "text": "x"}, headers={"Sec-Fetch-Site": site}
        )
        assert answer.status == status


async def test_the_settings_point_crmd_at_the_sandbox(harness: SandboxHarness, tmp_path: Path) -> None:
    told = (await harness.admin("GET", "/settings")).json
    addresses = harness.sandbox.addresses
    assert told["url"] == harness.url
    environ = told["environment"] | {"CRMD_DAEMON__STATE_DIR": str(tmp_path)}
    by_environment = load(path=None, environ=environ, cwd=tmp_path / "none").settings
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'[daemon]\nstate_dir = "{tmp_path}"\n'
        + "\n".join(toml_lines(addresses.configuration(harness.sandbox.settings)))
    )
    by_file = load(path=config, environ={}, cwd=tmp_path).settings
    for name in ("whatsapp", "smtp", "webhook", "ai", "notify"):
        assert getattr(by_environment, name) == getattr(by_file, name)
    assert by_file.whatsapp.base_url == harness.url
    assert by_file.smtp.port == addresses.smtp_port
    assert by_file.ai.base_url == f"{harness.url}/v1"


def test_addresses_of_ipv6() -> None:
    settings = SandboxSettings()
    made = Addresses("::1", 1, 2).configuration(settings)
    assert made["whatsapp"]["base_url"] == "http://[::1]:1"
    assert made["webhook"]["allow_private"] == ["::1/128"]
    tomllib.loads("\n".join(toml_lines(made)))


async def test_a_taken_port_is_told_and_nothing_stays_open(harness: SandboxHarness) -> None:
    other = Sandbox(SandboxSettings(port=harness.sandbox.addresses.port, smtp_port=0, callback_url=None))
    with pytest.raises(PortTaken, match="choose another --port"):
        await other.start()
    await other.stop()
    third = Sandbox(SandboxSettings(port=0, smtp_port=harness.sandbox.addresses.smtp_port, callback_url=None))
    with pytest.raises(PortTaken, match="smtp-port"):
        await third.start()
    with pytest.raises(RuntimeError):
        _ = third.addresses


async def test_it_starts_and_stops_twice_and_ends_at_once_while_all_is_under_way(harness: SandboxHarness) -> None:
    assert await harness.sandbox.start() == harness.sandbox.addresses
    await harness.admin("PUT", "/statuses", {"seconds": [60, 60, 60]})
    await harness.admin("POST", "/faults", {"kind": "timeout"})
    held = asyncio.create_task(harness.send())
    await wait_until(lambda: harness.entries("message"))
    async with asyncio.timeout(3):
        await harness.sandbox.stop()
    await harness.sandbox.stop()
    with pytest.raises(Exception, match="isconnected"):
        await held


async def test_without_a_callback_nothing_is_posted(start: Start) -> None:
    harness = await start(callback_url=None)
    await harness.send()
    await harness.admin("POST", "/inbound", {"from": ANN, "text": "x"})
    await wait_until(lambda: harness.entries("inbound")[0]["state"] == "not taken")
    assert harness.business.verifications == []
    assert [step["status"] for step in harness.entries("message")[0]["history"]][-1] == "read"
