"""What a stop without the store had to keep, and a store or a file that is no longer as it should be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from crmd.embedded.state_folder import SET_ASIDE_KEPT, StateDir
from crmd.engine.admin.views import NewJob, State
from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.worker import pending_acks
from crmd.engine.worker.pending_acks import FILE
from crmd.errors import StoreUnavailable
from tests.support.engine_harness import EngineHarness
from tests.support.store import StoreServer

IDENTITY = "e" * 32
TOKEN = f"{IDENTITY}-0:0"


@pytest.fixture
def folder(tmp_path: Path) -> StateDir:
    """A state folder."""
    made = StateDir(tmp_path / "state")
    made.create()
    return made


async def ended(r: EngineHarness, queue: str, count: int) -> list[Ack]:
    """Jobs of a daemon that has died, and their outcomes that it could not write."""
    await r.control.enqueue(queue, [NewJob("absent", {"n": n}) for n in range(count)])
    jobs = (await r.inspector.queue(queue).claim(TOKEN, count)).jobs
    return [Ack(job_id, TOKEN, AckKind.COMPLETE, document) for job_id, document, _ in jobs]


def aside(folder: StateDir) -> list[Path]:
    return sorted(folder.path.glob("outcomes.set-aside-*.json"))


@pytest.mark.queues(QueueSettings("bad"), QueueSettings("good"))
async def test_a_refused_outcome_is_set_aside_and_the_others_are_written(
    engine: EngineHarness, folder: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = {name: await ended(engine, name, 7) for name in ("bad", "good")}
    alone = Ack("saq:job:good:elsewhere", TOKEN, AckKind.COMPLETE, b"{}")  # stale: nobody's job
    pending_acks.save(folder, {**outcomes, "good": [*outcomes["good"], alone], "gone": [alone]})
    before = (folder.path / FILE).read_bytes()
    await engine.store.command("SET", "crmd:q:bad:completed", "of another type")
    engine.handle("good", "work", work)
    with caplog.at_level(logging.ERROR, "crmd"):
        await engine.start_pool(identity=IDENTITY, files=folder)
    assert (await engine.inspector.counts("good")).completed == 7
    assert (await engine.finished("good", await engine.add("good", "work"))).state is State.COMPLETED
    [kept] = aside(folder)
    assert kept.read_bytes() == before
    assert not (folder.path / FILE).exists()
    [line] = [record.getMessage() for record in caplog.records if "set aside" in record.getMessage()]
    assert str(kept) in line
    assert "no queue gone is configured" in line
    assert "queue bad: " in line
    await engine.store.command("DEL", "crmd:q:bad:completed")


async def test_one_outcome_that_is_refused_keeps_no_other_of_its_queue(
    engine: EngineHarness, folder: StateDir
) -> None:
    outcomes = await ended(engine, "q", 20)
    refused = outcomes[13]
    refused.kind, refused.entry = AckKind.FAILED, b"{}"
    await engine.store.command(
        "SET", engine.inspector.queue("q").keys.log(key_of(engine, refused)), "of another type"
    )
    pending_acks.save(folder, {"q": outcomes})
    await engine.start_pool(identity=IDENTITY, files=folder)
    assert (await engine.inspector.counts("q")).completed == 19
    assert len(aside(folder)) == 1


@pytest.mark.parametrize(
    "harm",
    [
        lambda raw: b"",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"\xff\x00\xfe" + raw,
        lambda raw: b"[1, 2]",
        lambda raw: b'{"q": 5, "other": [null], "third": {"id": 1}}',
        lambda raw: (
            b'{"q": [{"id": "x", "token": "y", "kind": "NONE", "document": "", "number": 0, "entry": ""}]}'
        ),
    ],
)
async def test_what_cannot_be_read_is_set_aside(engine: EngineHarness, folder: StateDir, harm: Any) -> None:
    pending_acks.save(folder, {"q": await ended(engine, "q", 3)})
    path = folder.path / FILE
    garbled = harm(path.read_bytes())
    path.write_bytes(garbled)
    await engine.start_pool(identity=IDENTITY, files=folder)
    assert [kept.read_bytes() for kept in aside(folder)] == ([garbled] if garbled else [])
    assert (await engine.inspector.counts("q")).waiting == 3  # they run again


async def test_what_cannot_be_read_is_set_aside_and_the_rest_is_written(
    engine: EngineHarness, folder: StateDir
) -> None:
    pending_acks.save(folder, {"q": await ended(engine, "q", 3)})
    path = folder.path / FILE
    document = orjson.loads(path.read_bytes())
    document["q"].insert(1, {**document["q"][0], "number": "many"})
    document["q"].append("no outcome")
    path.write_bytes(orjson.dumps(document))
    await engine.start_pool(identity=IDENTITY, files=folder)
    assert (await engine.inspector.counts("q")).completed == 3
    assert len(aside(folder)) == 1


async def test_a_start_that_cannot_write_any_outcome_keeps_them_all(
    engine: EngineHarness, own_store: StoreServer, folder: StateDir
) -> None:
    pending_acks.save(folder, {"q": await ended(engine, "q", 3)})
    before = (folder.path / FILE).read_bytes()
    with own_store.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreUnavailable):
            await pending_acks.write(folder, {"q": engine.inspector.queue("q")})
        admin.config_set("min-replicas-to-write", 0)
    assert (folder.path / FILE).read_bytes() == before
    await pending_acks.write(folder, {"q": engine.inspector.queue("q")})
    assert (await engine.inspector.counts("q")).completed == 3
    assert list(folder.path.glob("outcomes*")) == []


async def test_a_stop_over_an_unreadable_spool_keeps_both(engine: EngineHarness, folder: StateDir) -> None:
    (folder.path / FILE).write_text("not JSON")
    outcomes = await ended(engine, "q", 2)
    pending_acks.save(folder, {"q": outcomes})
    assert pending_acks.load(folder).acks == {"q": outcomes}
    assert [kept.read_text() for kept in aside(folder)] == ["not JSON"]


def test_only_the_newest_few_are_kept_aside(folder: StateDir) -> None:
    for number in range(SET_ASIDE_KEPT + 3):
        folder.write_private(FILE, str(number))
        folder.set_aside(FILE)
    kept = {path.read_text() for path in aside(folder)}
    assert kept == {str(number) for number in range(3, SET_ASIDE_KEPT + 3)}


async def work(ctx: dict[str, Any]) -> None:
    """A job."""


def key_of(r: EngineHarness, outcome: Ack) -> str:
    return r.inspector.queue("q").keys.key_of(outcome.job_id)
