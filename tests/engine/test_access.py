"""What the store's user has to be allowed: tested at the start, named where missing, noticed when taken away."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import crmd
from crmd.engine.admin.views import State
from crmd.engine.settings import QueueSettings
from crmd.engine.store import access
from crmd.engine.store.library import load_scripts
from crmd.errors import ExitCode, StoreUnusable
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.store import StoreServer
from tests.support.wait import wait_until

PACKAGE = Path(crmd.__file__).parent
APPLICATION_SIDE = {"cache.py"}
"""Runs under the application's own user."""
DOCUMENTED = re.compile(r"^ACL SETUSER crmd (.*)$", re.MULTILINE)
SETTINGS = QueueSettings("q", concurrency=2)


def grant(server: StoreServer, *rules: str) -> str:
    """Makes the user `app` with these rules; the store's URL for it."""
    with server.client() as admin:
        if admin.info("server").get("valkey_version") is None:  # Redis 7.0 knows no such command
            rules = tuple(rule for rule in rules if rule != "+client|setinfo")
        admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", *rules)
    return f"{server.url}?username=app&password=pw"


def change(server: StoreServer, *rules: str) -> None:
    """Grants or takes away while the daemon runs."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", *rules)


@pytest.fixture
async def small(own_store: StoreServer) -> AsyncIterator[EngineHarness]:
    """A harness whose user has only what is documented."""
    text = (PACKAGE.parent / "docs/reference/keys.md").read_text()
    line = DOCUMENTED.search(text)
    assert line
    rules = line[1].replace("on >PASSWORD ", "").split()
    async with engine_harness(grant(own_store, *rules), SETTINGS) as made:
        yield made


async def test_the_documented_permissions_are_enough(small: EngineHarness) -> None:
    @small.handler("q")
    async def work(ctx: dict[str, Any], n: int = 0) -> int:
        return n

    pool = await small.start_pool()
    for n in range(3):
        view = await small.finished("q", await small.add("q", "work", n=n))
        assert (view.state, view.result) == (State.COMPLETED, n)
    await wait_until(lambda: pool.wake_listener.ready.is_set())
    await small.control.pause("q", reason="test")
    waiting = await small.add("q", "work")
    await small.control.cancel("q", waiting)
    await small.control.resume("q")
    await pool.tick.run_once()
    assert [daemon.id for daemon in await small.inspector.daemons()] == [pool.context.instance_id]
    assert small.store.serves
    assert not [event for event in small.events if event[0] in ("queue.degraded", "store.writes_refused")]


async def test_our_own_keys_and_channels_are_enough(own_store: StoreServer) -> None:
    url = grant(own_store, "~saq:*", "~crmd:*", "&saq:*", "&crmd:*", "+@all")
    async with engine_harness(url, SETTINGS) as r:

        @r.handler("q")
        async def work(ctx: dict[str, Any]) -> None:
            pass

        pool = await r.start_pool()
        await wait_until(lambda: pool.wake_listener.ready.is_set())
        assert (await r.finished("q", await r.add("q", "work"))).state is State.COMPLETED


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("~* +@all", ("PUBLISH on channel crmd:wake", "channel saq:job:q:KEY")),
        ("~* &saq:* +@all", ("PUBLISH on channel crmd:wake",)),
        ("~* &crmd:* +@all", ("PUBLISH on channel saq:job:q:KEY",)),
        ("~* &* +@all -zadd", ("for ZADD;",)),
        ("~* &* +@all -zadd -pexpire -eval", ("for EVAL, PEXPIRE, ZADD;",)),
        ("~saq:* &* +@all", ("key crmd:daemons", "key crmd:q:q:leases")),
        ("~crmd:* &* +@all", ("key saq:q:queued", "key saq:job:q:KEY")),
        ("~crmd:* ~saq:q:* ~saq:job:other:* &* +@all", ("key saq:abort:KEY, key saq:job:q:KEY",)),
    ],
)
async def test_a_start_names_what_is_missing(
    own_store: StoreServer, monkeypatch: pytest.MonkeyPatch, rules: str, named: tuple[str, ...]
) -> None:
    monkeypatch.setattr(access, "NAMED_MAX", 100)
    async with engine_harness(grant(own_store, *rules.split()), SETTINGS) as r:
        with pytest.raises(StoreUnusable, match="lacks permission") as caught:
            await r.start_pool()
    assert caught.value.exit_code == ExitCode.CONFIG
    for part in named:
        assert part in str(caught.value)


async def test_what_is_taken_away_at_work_stops_the_queue_and_is_said_until_it_is_back(
    own_store: StoreServer,
) -> None:
    async with engine_harness(grant(own_store, "~*", "&*", "+@all"), SETTINGS) as r:
        ran: list[str] = []

        @r.handler("q")
        async def work(ctx: dict[str, Any]) -> None:
            ran.append(ctx["job"].key)

        pool = await r.start_pool()
        await r.finished("q", await r.add("q", "work"))
        async with engine_harness(own_store.url, SETTINGS) as admin:
            change(own_store, "resetchannels")
            added = [await admin.add("q", "work") for _ in range(20)]
            await wait_until(lambda: "PUBLISH on channel crmd:wake" in (r.store.refusal or ""))
            await wait_until(lambda: pool.degraded)
            await pool.tick.run_once()
            # What could not be ended is not started.
            assert len(set(ran)) <= 1 + 2 * SETTINGS.concurrency
            assert not r.store.serves
            change(own_store, "&*")
            for key in added:
                assert (await admin.finished("q", key)).state is State.COMPLETED
        await wait_until(lambda: r.store.serves and not pool.degraded)
        assert sorted(ran[1:]) == sorted(added)
        names = [name for name, _ in r.events]
        assert (names.count("store.writes_refused"), names.count("store.writes_taken")) == (1, 1)


def test_all_commands_that_are_used_are_tested() -> None:
    used = set()
    for script in load_scripts().values():
        used |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.text)) | set(
            re.findall(r"'([LR]PUSH)'", script.text)
        )
    for path in PACKAGE.rglob("*.py"):
        if path.name not in APPLICATION_SIDE and "sandbox" not in path.parts:
            used |= set(re.findall(r"command\(\s*\"([A-Z]+)\"", path.read_text()))
    tested = {*access.KEY_COMMANDS, *(name.split()[0] for name in access.OTHER_COMMANDS)}
    assert used - tested == {"PUBLISH", "SUBSCRIBE", "CLIENT"}  # the first two by channel; tracking is a bonus
