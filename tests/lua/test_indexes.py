"""counts, inspect, janitor, finalise_abort, quarantine, replace, echo: what is known of jobs, and mended."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings
from crmd.engine.store import scripts
from crmd.engine.store.client import Store
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import QUARANTINE_KEPT
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock
from tests.support.wait import HANG_S

ENTRY = b'{"at":1,"event":"x"}'


async def test_counts_of_every_state(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("w1", "w2")
    await lab.add("ranked", priority=1)
    await lab.add("d1", "d2", delay_ms=1_000)
    for n, kind in enumerate([AckKind.COMPLETE, AckKind.FAILED, AckKind.UNKNOWN, AckKind.ABORTED]):
        token = lab.token()
        await lab.add(f"f{n}")
        await lab.redis("LREM", lab.keys.queued, 1, lab.keys.job_id(f"f{n}"))
        await lab.redis("LPUSH", lab.keys.queued, lab.keys.job_id(f"f{n}"))
        await lab.claimed(2, token)
        await lab.end(f"f{n}", token, kind)
        strays = [i for i, t in (await lab.scripts.leases()).items() if t == token]
        await lab.scripts.settle([lab.ack(lab.keys.key_of(i), token, AckKind.RETURN) for i in strays])
    assert await lab.claimed(1) == ["ranked"]
    c = await lab.scripts.counts()
    assert (c.now_ms, c.waiting, c.delayed, c.active) == (clock.ms, 2, 2, 1)
    assert (c.completed, c.failed, c.cancelled, c.unknown) == (1, 2, 1, 1)
    assert (c.pause, c.override, c.blocked_until_ms, c.rate_left) == ({}, {}, 0, -1)
    assert c.oldest == [document("q", "w1")]
    assert await lab.redis("ZCARD", lab.keys.incomplete) == c.waiting + c.delayed + c.active


async def test_counts_say_what_holds_the_queue(store: Store, clock: StoreClock) -> None:
    lab = ScriptHarness(store, QueueSettings("q", rate_limit=Rate(5, 60)))
    await lab.add("a", "b")
    await lab.claim()
    assert (await lab.scripts.counts()).rate_left == 3
    count, period_ms = rate_window(Rate(2000, 60))
    await lab.redis("HSET", lab.keys.override, "count", count, "period_ms", period_ms, "text", "2000/min")
    await lab.redis("HSET", lab.keys.paused, "reason", "tea", "at", 1)
    c = await lab.scripts.counts()
    assert (c.rate_left, c.override["text"], c.pause["reason"]) == (2000, "2000/min", "tea")
    await lab.redis("DEL", lab.keys.paused)
    await lab.add("c")
    await lab.claim()
    assert (await lab.scripts.counts()).rate_left == 1999


async def test_the_oldest_may_wait_in_any_lane(store: Store) -> None:
    lab = ScriptHarness(store, QueueSettings("q"))
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("ghost"))
    await lab.add("ranked", priority=1)
    assert (await lab.scripts.counts()).oldest == [document("q", "ranked")]
    await lab.claimed()


async def test_what_only_reads_is_marked_so_and_serves_a_store_that_takes_no_writes(lab: ScriptHarness) -> None:
    """At its memory limit, or with a full disk, the store refuses scripts that may write; people look then."""
    await lab.add("a")
    await lab.redis("CONFIG", "SET", "maxmemory", 1)
    try:
        assert (await lab.scripts.counts()).waiting == 1
        assert (await lab.inspect("a")).document == document("q", "a")
        assert (await scripts.tick(lab.store, [lab.scripts])).due_ms == [-1]
        assert await lab.scripts.running([(lab.keys.job_id("a"), "x:1")]) == [0]
        assert await scripts.sweep_step(lab.store, [lab.scripts], "0", 100) == ("0", [])
        token = lab.token()
        assert await lab.claimed(1, token) == ["a"]
        assert await lab.settle("a", token, AckKind.COMPLETE) == "done"
    finally:
        await lab.redis("CONFIG", "SET", "maxmemory", 0)
    for name in ("counts", "inspect", "tick", "running", "janitor", "recall_request"):
        assert lab.store.scripts[name].text.startswith("#!lua flags=no-writes\n")


async def test_inspect_says_all_there_is(lab: ScriptHarness, clock: StoreClock) -> None:
    token = lab.token("me-1")
    await lab.add("a", priority=4)
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 1)
    await lab.redis("RPUSH", lab.keys.log("a"), ENTRY)
    await lab.claim(1, token)
    found = await lab.inspect("a")
    assert (found.lease, found.due, found.place, found.priority, found.crash_count) == (token, 0.0, None, 4, 1)
    assert (found.document, found.log) == (document("q", "a"), [ENTRY])
    [brief, nothing] = await lab.scripts.inspect([lab.keys.job_id("a"), lab.keys.job_id("none")])
    assert (brief.log, nothing.document, nothing.place) == ([], None, None)
    await lab.settle("a", token, AckKind.UNKNOWN)
    found = await lab.inspect("a")
    assert (found.place, found.ended_ms) == ("unknown", clock.ms)


async def test_inspect_takes_a_key_of_the_wrong_type_for_no_job(lab: ScriptHarness, untidy: None) -> None:
    await lab.add("a")
    await lab.redis("DEL", lab.keys.job_id("a"))
    await lab.redis("HSET", lab.keys.job_id("a"), "x", 1)
    await lab.redis("SET", lab.keys.log("a"), "wrong")
    found = await lab.inspect("a")
    assert (found.document, found.due, found.log) == (None, 0.0, [])


async def sweep(*labs: ScriptHarness, count: int = 1_000) -> list[str]:
    """A whole walk of the janitor: keys of the jobs it finds in no structure."""
    cursor, lost = "0", set[str]()
    while True:
        cursor, found = await scripts.sweep_step(labs[0].store, [lab.scripts for lab in labs], cursor, count)
        lost |= set(found)
        if cursor == "0":
            return sorted(job_id.removeprefix("saq:job:") for job_id in lost)


async def test_the_janitor_finds_what_is_in_no_structure(lab: ScriptHarness, untidy: None) -> None:
    other = ScriptHarness(lab.store, QueueSettings("r"))
    await lab.add("waiting", "aborted")
    await lab.add("delayed", delay_ms=1_000)
    await other.add("aborted too")
    await lab.stock_abort("aborted")
    await other.stock_abort("aborted too")
    token = lab.token()
    await lab.claimed(1, token)
    await lab.add("done")
    done = lab.token()
    await lab.claim(1, done)
    await lab.settle("done", done, AckKind.COMPLETE)
    await lab.redis("SET", "saq:job:strange:k", "{}")
    await lab.redis("SET", "saq:job:q", "{}")
    await lab.redis("HSET", "saq:job:q:hash", "x", 1)
    assert await sweep(lab, other) == ["q:aborted", "r:aborted too"]


async def test_the_janitor_finds_a_kept_job_whose_json_says_that_it_waits(lab: ScriptHarness) -> None:
    token = lab.token()
    await lab.add("a")
    await lab.claim(1, token)
    await lab.settle("a", token, AckKind.COMPLETE)
    assert await sweep(lab) == []
    await lab.redis("SET", lab.keys.job_id("a"), document("q", "a", status="aborting"))
    assert await sweep(lab) == ["q:a"]


async def test_the_janitor_walks_in_steps(lab: ScriptHarness) -> None:
    await lab.add(*(f"k{n}" for n in range(300)))
    lost = [f"k{n}" for n in range(0, 300, 3)]
    await lab.redis("ZREM", lab.keys.incomplete, *map(lab.keys.job_id, lost))
    assert await sweep(lab, count=20) == sorted(f"q:{key}" for key in lost)
    await lab.redis("DEL", *map(lab.keys.job_id, lost))


@pytest.mark.parametrize("wrong", ["incomplete", "leases", "completed"])
async def test_the_janitor_says_nothing_of_a_broken_queue(lab: ScriptHarness, wrong: str, untidy: None) -> None:
    other = ScriptHarness(lab.store, QueueSettings("r"))
    for one in (lab, other):
        await one.redis("SET", one.keys.job_id("a"), "{}")
    await lab.redis("SET", getattr(lab.keys, wrong), "wrong")
    assert await sweep(lab, other) == ["r:a"]


async def finalise(lab: ScriptHarness, read: bytes, written: bytes) -> bool:
    """Ends the job `a`."""
    return await lab.scripts.finalise_abort(lab.keys.job_id("a"), read, written, ENTRY)


async def test_an_abort_by_a_plain_client_is_brought_to_its_end(lab: ScriptHarness) -> None:
    await lab.add("a", priority=2)
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 1)
    await lab.stock_abort("a")  # the client found it in no lane, and leaves it
    aborting = document("q", "a", status="aborting", error="stop")
    assert await lab.redis("GET", lab.keys.job_id("a")) == aborting
    assert await finalise(lab, aborting, document("q", "a", status="aborted"))
    assert (await lab.place("a"), await lab.status("a"), await lab.log("a")) == ("cancelled", "aborted", [ENTRY])
    assert (await lab.counters())["cancelled"] == 1
    assert not await finalise(lab, document("q", "a", status="aborted"), b"{}")
    assert (await lab.claim()).jobs == []


async def test_what_the_client_ended_itself_is_only_noted(lab: ScriptHarness) -> None:
    await lab.add("a")
    await lab.stock_abort("a")
    stored = await lab.redis("GET", lab.keys.job_id("a"))
    assert await finalise(lab, stored, b"")
    assert (await lab.place("a"), await lab.redis("GET", lab.keys.job_id("a"))) == ("cancelled", stored)
    assert 0 < await lab.redis("TTL", lab.keys.job_id("a")) <= 600


@pytest.mark.parametrize("state", ["waiting", "active", "active, aborted", "completed", "changed", "gone"])
async def test_nothing_else_is_finalised(lab: ScriptHarness, state: str) -> None:
    stored = document("q", "a")
    if state != "gone":
        await lab.add("a")
    token = lab.token()
    if state.startswith("active") or state == "completed":
        await lab.claim(1, token)
    if state == "completed":
        await lab.settle("a", token, AckKind.COMPLETE)
        stored = document("q", "a", status="complete")
    if state in ("active, aborted", "changed"):
        await lab.stock_abort("a")
    if state == "active, aborted":
        stored = await lab.redis("GET", lab.keys.job_id("a"))
    before = await lab.place("a")
    assert not await finalise(lab, stored, b'{"status":"aborted"}')
    assert await lab.place("a") == before
    if state == "changed":
        await lab.scripts.delete(lab.keys.job_id("a"))


async def test_quarantine_sets_an_entry_aside_under_its_own_lease_only(lab: ScriptHarness) -> None:
    token = lab.token()
    job_id = lab.keys.job_id("a")
    await lab.add("a", priority=3)
    await lab.redis("RPUSH", lab.keys.log("a"), ENTRY)
    await lab.claim(1, token)
    assert not await lab.scripts.quarantine(job_id, "you:1", b"entry")
    assert await lab.place("a") == "active"
    assert await lab.scripts.quarantine(job_id, token, b"entry")
    assert await lab.place("a") == "gone"
    assert await lab.redis("LRANGE", lab.keys.quarantine, 0, -1) == [b"entry"]
    assert (await lab.counters())["quarantined"] == 1
    assert not await lab.scripts.quarantine(job_id, token, b"entry")


async def test_quarantine_keeps_the_last_ones(lab: ScriptHarness) -> None:
    for n in range(QUARANTINE_KEPT + 5):
        token = lab.token()
        await lab.add("a")
        await lab.claim(1, token)
        await lab.scripts.quarantine(lab.keys.job_id("a"), token, b"%d" % n)
    kept = await lab.redis("LRANGE", lab.keys.quarantine, 0, -1)
    assert kept == [b"%d" % n for n in range(5, QUARANTINE_KEPT + 5)]


async def test_quarantine_takes_an_id_that_is_no_text(lab: ScriptHarness) -> None:
    raw = lab.keys.job_id("k").encode() + b"\xff"
    await lab.redis("SET", raw, b"{}")
    await lab.redis("ZADD", lab.keys.incomplete, 0, raw)
    await lab.redis("RPUSH", lab.keys.queued, raw)
    token = lab.token()
    assert (await lab.claim(1, token)).invalid_ids == [(raw, b"{}")]
    assert await lab.scripts.quarantine(raw, token, b"entry")
    assert await lab.redis("EXISTS", raw, lab.keys.incomplete, lab.keys.leases) == 0


async def test_replace_writes_only_over_what_was_read(lab: ScriptHarness) -> None:
    job_id = lab.keys.job_id("a")
    await lab.add("a")
    await lab.redis("EXPIRE", job_id, 60)
    assert not await scripts.replace(lab.store, job_id, b"other", b"{}", "complete")
    assert await scripts.replace(lab.store, job_id, document("q", "a"), b"{}", "complete")
    assert (await lab.redis("GET", job_id), await lab.redis("TTL", job_id) > 0) == (b"{}", True)


async def test_echo_speaks_only_where_plain_clients_listen(lab: ScriptHarness) -> None:
    statuses = [(lab.keys.job_id("a"), "complete"), (lab.keys.job_id("b"), "failed")]
    assert await scripts.echo(lab.store, statuses) == 0
    async with lab.store.redis.pubsub() as listener:
        await listener.psubscribe("saq:job:q*")
        await listener.get_message(timeout=1)
        assert await scripts.echo(lab.store, statuses) == 2
        async with asyncio.timeout(HANG_S):
            while not (message := await listener.get_message(ignore_subscribe_messages=True, timeout=0.5)):
                pass
    assert (message["channel"], message["data"]) == (lab.keys.job_id("a").encode(), b"complete")
