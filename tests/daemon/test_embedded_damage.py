"""The embedded store on what a power loss or a bad disk left of its append-only file."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from crmd.embedded import server as embedded
from crmd.embedded import server_log
from crmd.embedded.aof import MANIFEST, newest_file
from crmd.errors import ExitCode, StoreUnusable
from tests.support.embedded import Stores, names_in, put, servers_in
from tests.support.wait import wait_until

KEYS = 60
TRUNCATIONS = 10


async def written(stores: Stores) -> Path:
    """Fills a store, ends it, and gives its append-only file."""
    store = stores.make()
    await put(await store.start(), {f"key{number:03}": f"value {number} " * 5 for number in range(KEYS)})
    await store.stop()
    path = newest_file(stores.files.data)
    assert path is not None
    return path


def whole_before(content: bytes, position: int) -> set[str]:
    """The keys whose commands are whole before a position."""
    keys = [f"key{number:03}" for number in range(KEYS)]
    ends = [content.index(f"value {n} ".encode() * 5, content.index(keys[n].encode())) for n in range(KEYS)]
    return {key for n, key in enumerate(keys) if ends[n] + len(f"value {n} " * 5) + len("\r\n") <= position}


async def test_a_file_cut_anywhere_loses_only_its_torn_tail(stores: Stores) -> None:
    path = await written(stores)
    content = path.read_bytes()
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    cuts = [0, *random.Random(seed).sample(range(len(content)), TRUNCATIONS)]
    for cut in cuts:
        path.write_bytes(content[:cut])
        store = stores.make()
        assert await names_in(await store.start()) == whole_before(content, cut), f"cut at {cut}"
        await store.stop()


async def test_zeros_at_the_end_are_cut_off(stores: Stores) -> None:
    path = await written(stores)
    content = path.read_bytes()
    path.write_bytes(content + bytes(5000))
    store = stores.make()
    assert len(await names_in(await store.start())) == KEYS
    assert ("store.tail_cut", {"bytes": 5000, "kept_in": f"{stores.folder}/store.cut"}) in stores.events
    assert (stores.folder / "store.cut").read_bytes() == bytes(5000)


def garbage(content: bytes) -> bytes:
    position = content.index(b"\r\n*3", len(content) // 2)
    return content[:position] + b"\xff\x00garbage" + content[position + 9 :]


def wrong_length(content: bytes) -> bytes:
    # The server would take all that follows for one long value, find the end too early, and cut it off.
    position = content.index(b"\r\n$", len(content) // 2) + 3
    return content[:position] + b"9" + content[position:]


@pytest.mark.parametrize("damage", [garbage, wrong_length])
async def test_damage_in_the_middle_is_refused_and_nothing_changed(
    stores: Stores, damage: Callable[[bytes], bytes]
) -> None:
    path = await written(stores)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"damaged.*nothing was changed and a copy is in") as caught:
            await stores.make().start()
    assert caught.value.exit_code == ExitCode.CONFIG
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged
    copies = list(stores.folder.glob("store.damaged-*"))
    assert len(copies) == 1
    assert (copies[0] / path.relative_to(stores.files.data)).read_bytes() == damaged
    assert servers_in(stores.folder) == []

    # The message names the command that goes on without what follows.
    command = str(caught.value).partition("run: ")[2].replace('"', "").split()
    assert command[:2] == ["truncate", "-s"]
    os.truncate(command[3], int(command[2]))
    kept = await names_in(await stores.make().start())
    assert 0 < len(kept) < KEYS


async def test_a_damaged_base_is_refused_and_nothing_changed(stores: Stores) -> None:
    path = await written(stores)
    base = next(path.parent.glob("*.base.rdb"))
    damaged = base.read_bytes()[:20]
    base.write_bytes(damaged)
    with pytest.raises(StoreUnusable, match=r"damaged: the server says: .*put a backup in its place"):
        await stores.make().start()
    assert base.read_bytes() == damaged
    assert list(stores.folder.glob("store.damaged-*"))


def manifest_of(stores: Stores) -> Path:
    return stores.files.data / MANIFEST


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lost(manifest: Path) -> None:
    manifest.unlink()


def emptied(manifest: Path) -> None:
    manifest.write_text("")


def overwritten(manifest: Path) -> None:
    manifest.write_bytes(b"\xff\x00hello\n")


def cut_off(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])


def a_folder(manifest: Path) -> None:
    manifest.unlink()
    manifest.mkdir()


@pytest.mark.parametrize("harm", [lost, emptied, overwritten, cut_off, a_folder])
async def test_a_manifest_that_does_not_list_the_files_is_refused_and_nothing_changed(
    stores: Stores, harm: Callable[[Path], None]
) -> None:
    await written(stores)
    manifest = manifest_of(stores)
    harm(manifest)
    before = content(stores.files.data)
    for _ in range(2):
        with pytest.raises(
            StoreUnusable, match=r"damaged.*manifest.*nothing was changed and a copy is in"
        ) as caught:
            await stores.make().start()
    assert caught.value.exit_code == ExitCode.CONFIG
    assert content(stores.files.data) == before
    [copy] = stores.folder.glob("store.damaged-*")
    assert content(copy) == before

    # The message names the command that lists them again.
    if manifest.is_dir():
        manifest.rmdir()
    subprocess.run(["/bin/sh", "-c", str(caught.value).partition("run: ")[2]], check=True)
    assert len(await names_in(await stores.make().start())) == KEYS


@pytest.mark.parametrize("file", ["*.incr.aof", "*.base.rdb"])
async def test_a_file_of_the_manifest_that_is_missing_is_refused(stores: Stores, file: str) -> None:
    path = await written(stores)
    next(path.parent.glob(file)).unlink()
    before = content(stores.files.data)
    with pytest.raises(StoreUnusable, match=r"damaged: .*put a backup in its place"):
        await stores.make().start()
    assert content(stores.files.data) == before


async def test_a_renamed_folder_of_data_is_no_fresh_start(stores: Stores) -> None:
    path = await written(stores)
    path.parent.rename(stores.files.data / "old")
    with pytest.raises(StoreUnusable, match="the folder appendonlydir is missing; there is: old"):
        await stores.make().start()
    (stores.files.data / "old").rename(path.parent)
    assert len(await names_in(await stores.make().start())) == KEYS


async def test_what_a_killed_server_may_leave_is_no_damage(stores: Stores) -> None:
    path = await written(stores)
    manifest = manifest_of(stores)
    base = next(path.parent.glob("*.base.rdb"))
    # A rewrite that was cut off: its file is begun and its base in place, and neither is listed yet.
    (path.parent / "appendonly.aof.2.incr.aof").touch()
    shutil.copy(base, path.parent / "appendonly.aof.2.base.rdb")
    (path.parent / "temp-appendonly.aof.manifest").write_text("file appendonly")
    store = stores.make()
    assert len(await names_in(await store.start())) == KEYS
    await store.stop()
    # A first start that was cut off: an empty base, and no manifest yet.
    for left in path.parent.iterdir():
        if left != base:
            left.unlink()
    assert not manifest.exists()
    assert await names_in(await stores.make().start()) == set()


async def test_a_start_without_room_waits_and_says_why(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "FULL_DISK_POLL_SECONDS", 0.05)
    store = stores.make()
    with monkeypatch.context() as full:
        full.setattr(server_log, "MIN_FREE_BYTES", 2**63)
        starting = asyncio.create_task(store.start())
        await wait_until(lambda: "is full; free some space" in (store.last_error or ""))
        assert not starting.done()
    assert await names_in(await asyncio.wait_for(starting, 10)) == set()
    assert (store.last_error, store.restarts) == (None, 0)


async def test_a_server_that_finds_damage_at_a_restart_is_tried_again_with_pauses(stores: Stores) -> None:
    store = stores.make()
    await put(await store.start(), {f"key{number:03}": "x" * 100 for number in range(KEYS)})
    path = newest_file(stores.files.data)
    assert path is not None
    assert store.pid is not None
    content = path.read_bytes()
    path.write_bytes(garbage(content))
    os.kill(store.pid, signal.SIGKILL)
    await wait_until(lambda: "damaged" in (store.last_error or ""))
    assert store.pid is None
    path.write_bytes(content)
    await wait_until(lambda: store.restarts == 1)
    assert len(await names_in(store.url)) == KEYS
    assert stores.names().count("store.restart_failed") == 1
