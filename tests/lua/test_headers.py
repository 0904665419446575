"""Each script's header, against the script and against its caller."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from crmd.crm.whatsapp import send_rate
from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings, SettingsRegistry
from crmd.engine.store import schedules, scripts
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.library import load_scripts
from crmd.engine.store.replies import Ack, AckKind, NewDocument, RequestRecord
from crmd.engine.store.scripts import QueueScripts

SCRIPTS = load_scripts()
FLAGS = {"", " flags=allow-oom", " flags=no-writes"}


class RecordingStore(Store):
    """A store that notes which keys each script was given."""

    def __init__(self, target: StoreTarget) -> None:
        super().__init__(target)
        self.seen: dict[str, Sequence[str]] = {}

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        assert name not in self.seen, f"{name} has two callers"
        self.seen[name] = keys
        return await super().call(name, keys, args)


def header(name: str) -> dict[str, str]:
    """The parts of a script's header: purpose, KEYS, ARGV, Returns."""
    shebang, *lines = SCRIPTS[name].text.split("\n")
    assert shebang.removeprefix("#!lua") in FLAGS, shebang
    parts, part = {"purpose": ""}, "purpose"
    for line in lines:
        if not line.startswith("-- "):
            break
        text = line.removeprefix("-- ")
        if found := re.match(r"(KEYS|ARGV|Returns)\s+", text):
            part, text = found[1], text[found.end() :]
            parts[part] = ""
        parts[part] = f"{parts[part]} {text.strip()}".strip()
    return parts


def named_keys(name: str) -> tuple[list[str], list[str]]:
    """The keys that a header names: those that come once, and those that come for each queue."""
    text = header(name).get("KEYS", "")
    once, _, repeated = text.partition("for each queue:")
    once = once.removesuffix("then ").strip().removesuffix(",")
    return _split(once), _split(repeated)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_header_says_purpose_arguments_and_answer(name: str) -> None:
    parts = header(name)
    assert parts["purpose"].endswith((".", ":")), parts["purpose"]
    assert parts["ARGV"]
    assert parts["Returns"]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_uses_a_key_that_its_header_does_not_name(name: str) -> None:
    once, repeated = named_keys(name)
    used = [int(number) for number in re.findall(r"KEYS\[(\d+)\]", SCRIPTS[name].text)]
    assert max(used, default=0) <= len(once) + len(repeated)
    if not repeated and not re.search(r"KEYS\[[a-z]", SCRIPTS[name].text):
        assert sorted(set(used)) == list(range(1, len(once) + 1)), "a key is named and not used"


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_includes_are_resolved(name: str) -> None:
    assert "--@include" not in SCRIPTS[name].text


async def test_callers_pass_the_keys_that_the_headers_name(store_url: str) -> None:
    limits = (KeyedLimit("to", Rate(1, 6), 45),)
    store = RecordingStore(StoreTarget(store_url))
    await store.start(wait=False)
    registry = SettingsRegistry({name: QueueSettings(name, limits=limits) for name in ("q", "r")})
    first, second = (QueueScripts(store, name, registry) for name in ("q", "r"))
    job_id = first.keys.job_id("k")
    await first.enqueue([NewDocument(job_id, b"{}")])
    record = RequestRecord(b"digest", b"8 bytes.", 1, False)
    await first.enqueue_request([NewDocument(job_id, b"{}")], record)
    await first.recall_request([NewDocument(job_id, b"{}")], record)
    ack = Ack(job_id, "d:1", AckKind.COMPLETE)
    await first.settle_and_claim([ack], "d:1", 1)
    await first.settle_and_claim([ack], "d:1", 0)
    await first.settle_and_claim([], "d:1", 1)
    await first.promote_due()
    await first.mark([(job_id, "d:1", b"{}", True)])
    await first.begin_effect(job_id, "d:1")
    await first.running([(job_id, "d:1")])
    await first.trim()
    await first.recover("d", "d-", "d:2")
    await first.cancel(job_id, b"{}", b"{}", b"{}")
    await first.finalise_abort(job_id, b"", b"", b"")
    await first.requeue(job_id, b"{}", b"{}")
    await first.settle_unknown(job_id, b"{}", b"{}", b"{}", completed=True)
    await first.promote(job_id)
    await first.delete(job_id)
    await first.tidy_unique("0", 10)
    await first.tidy_requests("0", 10)
    await first.quarantine(job_id, "d:1", b"{}")
    await first.slow_down(1.0)
    await first.pause({"reason": "test"}, 60.0)
    await first.resume()
    await first.limit({"count": 1}, None)
    await first.counts()
    await first.inspect([job_id])
    assert await scripts.denied(store, [("GET", "any")]) == []
    assert await scripts.see_alert(store, "stalled", "alert", 1, 1000) == 1
    await scripts.renew(store, "info", 1000)
    await scripts.tick(store, [first, second])
    await scripts.echo(store, [(job_id, "complete")])
    await scripts.replace(store, job_id, b"", b"{}", "queued")
    await scripts.sweep_step(store, [first, second], "0", 10)
    rate = send_rate.SendRate(store, "1", 80.0)
    await rate.take(1)
    await rate.received(1)
    await rate.refused(0.1)
    await schedules.position(store, "schedule")
    await schedules.claim(store, "schedule", first.keys, 0, 1, NewDocument(job_id, b"{}", unique_ms=1))
    await schedules.note_run(store, "schedule", "q", "k")
    await schedules.pause(store, "schedule", None, None)
    await schedules.resume(store, "schedule")
    await store.command("FLUSHALL")
    await store.stop()

    assert set(store.seen) == set(SCRIPTS)
    for name, keys in store.seen.items():
        once, repeated = named_keys(name)
        queues = (len(keys) - len(once)) // len(repeated) if repeated else 0
        assert [key.rpartition(":")[2] for key in keys] == once + repeated * queues, name
        assert queues == (2 if repeated else 0), name
