"""counts, inspect, janitor, finalise_abort, quarantine, replace, echo: what is known of jobs, and mended."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings
from crmd.engine.store import scripts
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import QUARANTINE_KEPT
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock
from tests.support.wait import HANG_S

ENTRY = b'{"at":1,"event":"x"}'


async def test_counts_of_every_state(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("w1", "w2")
    await harness.add("ranked", priority=1)
    await harness.add("d1", "d2", delay_ms=1_000)
    for n, kind in enumerate([AckKind.COMPLETE, AckKind.FAILED, AckKind.UNKNOWN, AckKind.ABORTED]):
        token = harness.token()
        await harness.add(f"f{n}")
        await harness.redis("LREM", harness.keys.queued, 1, harness.keys.job_id(f"f{n}"))
        await harness.redis("LPUSH", harness.keys.queued, harness.keys.job_id(f"f{n}"))
        await harness.claimed(2, token)
        await harness.end(f"f{n}", token, kind)
        strays = [i for i, t in (await harness.scripts.leases()).items() if t == token]
        await harness.scripts.settle([harness.ack(harness.keys.key_of(i), token, AckKind.RETURN) for i in strays])
    assert await harness.claimed(1) == ["ranked"]
    c = await harness.scripts.counts()
    assert (c.now_ms, c.waiting, c.delayed, c.active) == (clock.ms, 2, 2, 1)
    assert (c.completed, c.failed, c.cancelled, c.unknown) == (1, 2, 1, 1)
    assert (c.pause, c.override, c.blocked_until_ms, c.rate_left) == ({}, {}, 0, -1)
    assert c.oldest == [document("q", "w1")]
    assert await harness.redis("ZCARD", harness.keys.incomplete) == c.waiting + c.delayed + c.active


@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(5, 60)))
async def test_counts_say_what_holds_the_queue(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("a", "b")
    await harness.claim()
    assert (await harness.scripts.counts()).rate_left == 3
    count, period_ms = rate_window(Rate(2000, 60))
    await harness.redis("HSET", harness.keys.override, "count", count, "period_ms", period_ms, "text", "2000/min")
    await harness.redis("HSET", harness.keys.paused, "reason", "tea", "at", 1)
    c = await harness.scripts.counts()
    assert (c.rate_left, c.override["text"], c.pause["reason"]) == (2000, "2000/min", "tea")
    await harness.redis("DEL", harness.keys.paused)
    await harness.add("c")
    await harness.claim()
    assert (await harness.scripts.counts()).rate_left == 1999


@pytest.mark.queues(QueueSettings("q"))
async def test_the_oldest_may_wait_in_any_lane(harness: ScriptHarness) -> None:
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("ghost"))
    await harness.add("ranked", priority=1)
    assert (await harness.scripts.counts()).oldest == [document("q", "ranked")]
    await harness.claimed()


async def test_what_only_reads_is_marked_so_and_serves_a_store_that_takes_no_writes(
    harness: ScriptHarness,
) -> None:
    """At its memory limit, or with a full disk, the store refuses scripts that may write; people look then."""
    await harness.add("a")
    async with harness.full():
        assert (await harness.scripts.counts()).waiting == 1
        assert (await harness.inspect("a")).document == document("q", "a")
        assert (await scripts.tick(harness.store, [harness.scripts])).due_ms == [-1]
        assert await harness.scripts.running([(harness.keys.job_id("a"), "x:1")]) == [0]
        assert await scripts.sweep_step(harness.store, [harness.scripts], "0", 100) == ("0", [])
        token = harness.token()
        assert await harness.claimed(1, token) == ["a"]
        assert await harness.settle("a", token, AckKind.COMPLETE) == "done"
    for name in ("counts", "inspect", "tick", "running", "janitor", "recall_request"):
        assert harness.store.scripts[name].text.startswith("#!lua flags=no-writes\n")


async def test_inspect_says_all_there_is(harness: ScriptHarness, clock: StoreClock) -> None:
    token = harness.token("me-1")
    await harness.add("a", priority=4)
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 1)
    await harness.redis("RPUSH", harness.keys.log("a"), ENTRY)
    await harness.claim(1, token)
    found = await harness.inspect("a")
    assert (found.lease, found.due, found.place, found.priority, found.crash_count) == (token, 0.0, None, 4, 1)
    assert (found.document, found.log) == (document("q", "a"), [ENTRY])
    [brief, nothing] = await harness.scripts.inspect([harness.keys.job_id("a"), harness.keys.job_id("none")])
    assert (brief.log, nothing.document, nothing.place) == ([], None, None)
    await harness.settle("a", token, AckKind.UNKNOWN)
    found = await harness.inspect("a")
    assert (found.place, found.ended_ms) == ("unknown", clock.ms)


async def test_inspect_takes_a_key_of_the_wrong_type_for_no_job(harness: ScriptHarness, untidy: None) -> None:
    await harness.add("a")
    await harness.redis("DEL", harness.keys.job_id("a"))
    await harness.redis("HSET", harness.keys.job_id("a"), "x", 1)
    await harness.redis("SET", harness.keys.log("a"), "wrong")
    found = await harness.inspect("a")
    assert (found.document, found.due, found.log) == (None, 0.0, [])


async def sweep(*labs: ScriptHarness, count: int = 1_000) -> list[str]:
    """A whole walk of the janitor: keys of the jobs it finds in no structure."""
    cursor, lost = "0", set[str]()
    while True:
        cursor, found = await scripts.sweep_step(
            labs[0].store, [harness.scripts for harness in labs], cursor, count
        )
        lost |= set(found)
        if cursor == "0":
            return sorted(job_id.removeprefix("saq:job:") for job_id in lost)


async def test_the_janitor_finds_what_is_in_no_structure(harness: ScriptHarness, untidy: None) -> None:
    other = ScriptHarness(harness.store, QueueSettings("r"))
    await harness.add("waiting", "aborted")
    await harness.add("delayed", delay_ms=1_000)
    await other.add("aborted too")
    await harness.stock_abort("aborted")
    await other.stock_abort("aborted too")
    await harness.claimed(1)
    await harness.finish("done")
    await harness.redis("SET", "saq:job:strange:k", "{}")
    await harness.redis("SET", "saq:job:q", "{}")
    await harness.redis("HSET", "saq:job:q:hash", "x", 1)
    assert await sweep(harness, other) == ["q:aborted", "r:aborted too"]


async def test_the_janitor_finds_a_kept_job_whose_json_says_that_it_waits(harness: ScriptHarness) -> None:
    await harness.finish("a")
    assert await sweep(harness) == []
    await harness.redis("SET", harness.keys.job_id("a"), document("q", "a", status="aborting"))
    assert await sweep(harness) == ["q:a"]


async def test_the_janitor_walks_in_steps(harness: ScriptHarness) -> None:
    await harness.add(*(f"k{n}" for n in range(300)))
    lost = [f"k{n}" for n in range(0, 300, 3)]
    await harness.redis("ZREM", harness.keys.incomplete, *map(harness.keys.job_id, lost))
    assert await sweep(harness, count=20) == sorted(f"q:{key}" for key in lost)
    await harness.redis("DEL", *map(harness.keys.job_id, lost))


@pytest.mark.parametrize("wrong", ["incomplete", "leases", "completed"])
async def test_the_janitor_says_nothing_of_a_broken_queue(
    harness: ScriptHarness, wrong: str, untidy: None
) -> None:
    other = ScriptHarness(harness.store, QueueSettings("r"))
    for one in (harness, other):
        await one.redis("SET", one.keys.job_id("a"), "{}")
    await harness.redis("SET", getattr(harness.keys, wrong), "wrong")
    assert await sweep(harness, other) == ["r:a"]


async def finalise(harness: ScriptHarness, read: bytes, written: bytes) -> bool:
    """Ends the job `a`."""
    return await harness.scripts.finalise_abort(harness.keys.job_id("a"), read, written, ENTRY)


async def test_an_abort_by_a_plain_client_is_brought_to_its_end(harness: ScriptHarness) -> None:
    await harness.add("a", priority=2)
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 1)
    await harness.stock_abort("a")  # the client found it in no lane, and leaves it
    aborting = document("q", "a", status="aborting", error="stop")
    assert await harness.redis("GET", harness.keys.job_id("a")) == aborting
    assert await finalise(harness, aborting, document("q", "a", status="aborted"))
    assert (await harness.place("a"), await harness.status("a"), await harness.log("a")) == (
        "cancelled",
        "aborted",
        [ENTRY],
    )
    assert (await harness.counters())["cancelled"] == 1
    assert not await finalise(harness, document("q", "a", status="aborted"), b"{}")
    assert (await harness.claim()).jobs == []


async def test_what_the_client_ended_itself_is_only_noted(harness: ScriptHarness) -> None:
    await harness.add("a")
    await harness.stock_abort("a")
    stored = await harness.redis("GET", harness.keys.job_id("a"))
    assert await finalise(harness, stored, b"")
    assert (await harness.place("a"), await harness.redis("GET", harness.keys.job_id("a"))) == (
        "cancelled",
        stored,
    )
    assert 0 < await harness.redis("TTL", harness.keys.job_id("a")) <= 600


@pytest.mark.parametrize("state", ["waiting", "active", "active, aborted", "completed", "changed", "gone"])
async def test_nothing_else_is_finalised(harness: ScriptHarness, state: str) -> None:
    stored = document("q", "a")
    if state != "gone":
        await harness.add("a")
    token = harness.token()
    if state.startswith("active") or state == "completed":
        await harness.claim(1, token)
    if state == "completed":
        await harness.settle("a", token, AckKind.COMPLETE)
        stored = document("q", "a", status="complete")
    if state in ("active, aborted", "changed"):
        await harness.stock_abort("a")
    if state == "active, aborted":
        stored = await harness.redis("GET", harness.keys.job_id("a"))
    before = await harness.place("a")
    assert not await finalise(harness, stored, b'{"status":"aborted"}')
    assert await harness.place("a") == before
    if state == "changed":
        await harness.scripts.delete(harness.keys.job_id("a"))


async def test_quarantine_sets_an_entry_aside_under_its_own_lease_only(harness: ScriptHarness) -> None:
    token = harness.token()
    job_id = harness.keys.job_id("a")
    await harness.add("a", priority=3)
    await harness.redis("RPUSH", harness.keys.log("a"), ENTRY)
    await harness.claim(1, token)
    assert not await harness.scripts.quarantine(job_id, "you:1", b"entry")
    assert await harness.place("a") == "active"
    assert await harness.scripts.quarantine(job_id, token, b"entry")
    assert await harness.place("a") == "gone"
    assert await harness.redis("LRANGE", harness.keys.quarantine, 0, -1) == [b"entry"]
    assert (await harness.counters())["quarantined"] == 1
    assert not await harness.scripts.quarantine(job_id, token, b"entry")


async def test_quarantine_keeps_the_last_ones(harness: ScriptHarness) -> None:
    for n in range(QUARANTINE_KEPT + 5):
        token = await harness.lease("a")
        await harness.scripts.quarantine(harness.keys.job_id("a"), token, b"%d" % n)
    kept = await harness.redis("LRANGE", harness.keys.quarantine, 0, -1)
    assert kept == [b"%d" % n for n in range(5, QUARANTINE_KEPT + 5)]


async def test_quarantine_takes_an_id_that_is_no_text(harness: ScriptHarness) -> None:
    raw = harness.keys.job_id("k").encode() + b"\xff"
    await harness.redis("SET", raw, b"{}")
    await harness.redis("ZADD", harness.keys.incomplete, 0, raw)
    await harness.redis("RPUSH", harness.keys.queued, raw)
    token = harness.token()
    assert (await harness.claim(1, token)).invalid_ids == [(raw, b"{}")]
    assert await harness.scripts.quarantine(raw, token, b"entry")
    assert await harness.redis("EXISTS", raw, harness.keys.incomplete, harness.keys.leases) == 0


async def test_replace_writes_only_over_what_was_read(harness: ScriptHarness) -> None:
    job_id = harness.keys.job_id("a")
    await harness.add("a")
    await harness.redis("EXPIRE", job_id, 60)
    assert not await scripts.replace(harness.store, job_id, b"other", b"{}", "complete")
    assert await scripts.replace(harness.store, job_id, document("q", "a"), b"{}", "complete")
    assert (await harness.redis("GET", job_id), await harness.redis("TTL", job_id) > 0) == (b"{}", True)


async def test_echo_speaks_only_where_plain_clients_listen(harness: ScriptHarness) -> None:
    statuses = [(harness.keys.job_id("a"), "complete"), (harness.keys.job_id("b"), "failed")]
    assert await scripts.echo(harness.store, statuses) == 0
    async with harness.store.redis.pubsub() as listener:
        await listener.psubscribe("saq:job:q*")
        await listener.get_message(timeout=1)
        assert await scripts.echo(harness.store, statuses) == 2
        async with asyncio.timeout(HANG_S):
            while not (message := await listener.get_message(ignore_subscribe_messages=True, timeout=0.5)):
                pass
    assert (message["channel"], message["data"]) == (harness.keys.job_id("a").encode(), b"complete")
