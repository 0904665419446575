"""A job's whole life, in any order of events, against a model: nothing is lost, doubled or left behind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crmd.engine.settings import QueueSettings
from crmd.engine.store import scripts
from crmd.engine.store.client import Store
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import ISOLATE_AFTER_CRASHES, POISON_AFTER_CRASHES
from tests.support.script_harness import Bench, ScriptHarness, document
from tests.support.storeclock import NOW_KEY, StoreClock

MODEL = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYS = [f"k{n}" for n in range(6)]
PLACES = {
    AckKind.COMPLETE: "completed",
    AckKind.FAILED: "failed",
    AckKind.UNKNOWN: "unknown",
    AckKind.ABORTED: "cancelled",
}
LASTING = {"counters", "minutes"}
"""All that is left of a queue whose jobs are gone."""


@dataclass
class Job:
    """What should be true of one key."""

    exists: bool = False
    live: bool = False
    """In the indexes: waits or runs."""
    due: int = 0
    """ms; 0 for now."""
    token: str | None = None
    begun: bool = False
    crash_count: int = 0
    kept: str | None = None
    """Its place among the finished."""

    @property
    def crash_looping(self) -> bool:
        """Runs alone, however it came to wait."""
        return self.crash_count >= ISOLATE_AFTER_CRASHES

    @property
    def place(self) -> str:
        """Where `ScriptHarness.place` should see it."""
        if self.token:
            return "active" if self.live else "active, aborted"
        if self.live:
            return "delayed" if self.due else "waiting"
        return self.kept or ("limbo" if self.exists else "gone")


@dataclass(frozen=True)
class Event:
    """Something happens to a key, or to the `nth` running job."""

    name: str
    key: str = ""
    nth: int = 0
    kind: AckKind = AckKind.COMPLETE
    number: int = 0


def events() -> st.SearchStrategy[Event]:
    key = st.sampled_from(KEYS)
    nth = st.integers(0, 5)
    delays = st.sampled_from([0, 0, 500, 5_000])
    by_key = ("cancel", "requeue", "promote", "delete", "stock_abort", "finalise")
    return st.one_of(
        st.builds(Event, st.just("enqueue"), key, number=delays, nth=st.sampled_from([0, 0, 3])),
        st.builds(Event, st.just("claim"), nth=st.integers(1, 4), key=st.sampled_from(["a", "b"])),
        st.builds(Event, st.just("claim"), nth=st.integers(1, 4), key=st.sampled_from(["a", "b"])),
        st.builds(Event, st.just("settle"), nth=nth, kind=st.sampled_from(list(AckKind)), number=delays),
        st.builds(Event, st.just("settle"), nth=nth, kind=st.sampled_from(list(AckKind)), number=delays),
        st.builds(Event, st.sampled_from(by_key), key),
        st.builds(Event, st.just("stock_enqueue"), key, number=delays),
        st.builds(Event, st.sampled_from(["mark", "begin", "repeat"]), nth=nth),
        st.builds(Event, st.sampled_from(["isolated", "die"]), key=st.sampled_from(["a", "b"])),
        st.builds(Event, st.just("forward"), number=st.sampled_from([1, 500, 6_000])),
    )


class Life:
    """Plays events on the store and on the model, and compares."""

    def __init__(self, store: Store, clock: StoreClock) -> None:
        self.harness = ScriptHarness(store, QueueSettings("q", keep_min_seconds=0))
        self.clock = clock
        self.jobs = {key: Job() for key in KEYS}
        self.instances = {"a": "a-0", "b": "b-0"}
        self.past: list[tuple[str, str]] = []
        """Key and token of leases that are over."""
        self._numbers = itertools.count(1)

    @property
    def running(self) -> list[str]:
        return [key for key, job in self.jobs.items() if job.token]

    async def play(self, event: Event) -> None:
        """One event, then a look at everything."""
        await getattr(self, f"on_{event.name}")(event)
        await self.compare(event)

    async def compare(self, event: Event | None = None) -> None:
        """The store agrees with the model on every key, and the counts with the indexes."""
        found = {key: await self.harness.place(key) for key in KEYS}
        assert found == {key: job.place for key, job in self.jobs.items()}, event
        counts = await self.harness.scripts.counts()
        aborted = sum(job.token is not None and not job.live for job in self.jobs.values())
        booked = await self.harness.redis("ZCARD", self.harness.keys.incomplete)
        assert counts.active == len(self.running)
        if not aborted:
            assert (
                counts.waiting + counts.delayed + counts.active
                == booked
                == sum(j.live for j in self.jobs.values())
            )

    # What happens

    async def on_enqueue(self, event: Event) -> None:
        job = self.jobs[event.key]
        delay = event.number or -1
        [created] = await self.harness.add(event.key, delay_ms=delay, priority=event.nth)
        assert created == (not job.live and job.token is None)
        if created:
            self.jobs[event.key] = Job(
                exists=True, live=True, due=self.clock.ms + event.number if event.number else 0
            )

    async def on_stock_enqueue(self, event: Event) -> None:
        job = self.jobs[event.key]
        if job.token and event.number:
            return
        due = self.clock.ms + event.number if event.number else 0
        if await self.harness.stock_enqueue(event.key, due / 1000):
            assert not job.live
            self.jobs[event.key] = replace(job, exists=True, live=True, due=due)

    async def on_forward(self, event: Event) -> None:
        await self.clock.forward(event.number)
        await self.harness.claim(0)
        for job in self.jobs.values():
            if job.live and job.due <= self.clock.ms:
                job.due = 0

    async def on_claim(self, event: Event) -> None:
        free = {key for key, job in self.jobs.items() if self.waits(job) and not job.crash_looping}
        token = self.harness.token(self.instances[event.key])
        started = await self.harness.claimed(event.nth, token)
        assert len(started) == len(set(started)) == min(event.nth, len(free))
        assert set(started) <= free
        self.start(started, token)
        if len(started) < event.nth:  # it saw all that waited
            assert {key for key, job in self.jobs.items() if self.waits(job)} <= await self.set_apart()

    async def on_isolated(self, event: Event) -> None:
        free = {
            key for key in await self.set_apart() if self.waits(self.jobs[key]) and self.jobs[key].crash_looping
        }
        token = self.harness.token(self.instances[event.key])
        claimed = await self.harness.claim(3, token, isolated=True)
        started = self.harness.keys_of(claimed)
        assert len(started) == min(1, len(free))
        assert set(started) <= free
        assert [crash_count for _, _, crash_count in claimed.jobs] == [
            self.jobs[key].crash_count for key in started
        ]
        self.start(started, token)

    async def set_apart(self) -> set[str]:
        """What a claim came upon that has to run alone, and what recovery took back; some may be gone since."""
        ids = await self.harness.redis("LRANGE", self.harness.keys.suspects, 0, -1)
        return {self.harness.keys.key_of(job_id.decode()) for job_id in ids}

    def waits(self, job: Job) -> bool:
        return job.live and job.token is None and not job.due

    def start(self, keys: Sequence[str], token: str) -> None:
        for key in keys:
            job = self.jobs[key]
            job.token, job.begun, job.kept = token, False, None

    async def on_settle(self, event: Event) -> None:
        if not self.running:
            return
        key = self.running[event.nth % len(self.running)]
        job = self.jobs[key]
        assert job.token
        number = 0 if event.kind.final else event.number
        answer = await self.harness.settle(key, job.token, event.kind, number=number)
        taken = not event.kind.final and not job.live
        assert answer == ("taken" if taken else "done")
        if not taken:
            self.past.append((key, job.token))
            self.end(key, event.kind, number)

    def end(self, key: str, kind: AckKind, number: int = 0) -> None:
        """What a settle makes of a job."""
        job = self.jobs[key]
        if kind is AckKind.ABORTED and job.live:  # enqueued again meanwhile
            self.jobs[key] = replace(job, token=None, begun=False, crash_count=0)
        elif kind.final:
            self.jobs[key] = Job(exists=True, kept=PLACES[kind])
        else:
            due = self.clock.ms + number if number else job.due
            self.jobs[key] = replace(job, token=None, begun=False, due=due)

    async def on_repeat(self, event: Event) -> None:
        """Outcomes and marks of leases that are over come once more, and change nothing."""
        if not self.past:
            return
        key, token = self.past[event.nth % len(self.past)]
        job_id = self.harness.keys.job_id(key)
        before = await self.harness.redis("GET", job_id)
        for kind in AckKind:
            assert await self.harness.settle(key, token, kind, entry=b"{}") == "stale"
        assert await self.harness.scripts.mark([(job_id, token, b"{}", True)]) == [0]
        assert not await self.harness.scripts.begin_effect(job_id, token)
        assert not await self.harness.scripts.quarantine(job_id, token, b"{}")
        assert await self.harness.redis("GET", job_id) == before

    async def on_mark(self, event: Event) -> None:
        if not self.running:
            return
        key = self.running[event.nth % len(self.running)]
        job = self.jobs[key]
        assert job.token
        stored = document("q", key, status="active")
        answer = await self.harness.scripts.mark([(self.harness.keys.job_id(key), job.token, stored, False)])
        assert answer == [1 if job.live else -1]

    async def on_begin(self, event: Event) -> None:
        if not self.running:
            return
        key = self.running[event.nth % len(self.running)]
        job = self.jobs[key]
        assert job.token
        begun = await self.harness.scripts.begin_effect(self.harness.keys.job_id(key), job.token)
        assert begun == job.live
        job.begun = job.begun or begun

    async def on_cancel(self, event: Event) -> None:
        job = self.jobs[event.key]
        written = [document("q", event.key, status=status) for status in ("aborted", "aborting")]
        answer = await self.harness.scripts.cancel(
            self.harness.keys.job_id(event.key), written[0], written[1], b"{}"
        )
        assert answer == ("active" if job.token else "waiting" if job.live else "gone")
        if answer == "active":
            self.jobs[event.key] = replace(job, live=False, due=0)
        elif answer == "waiting":
            self.jobs[event.key] = Job(exists=True, kept="cancelled")

    async def on_requeue(self, event: Event) -> None:
        job = self.jobs[event.key]
        job_id = self.harness.keys.job_id(event.key)
        answer = await self.harness.scripts.requeue(job_id, document("q", event.key), b"{}")
        if job.live or job.token:
            assert answer == 0
        elif not job.exists:
            assert answer == -2
        elif job.kept == "completed":
            assert answer == -1
        else:
            assert answer == 1
            self.jobs[event.key] = replace(job, live=True, due=0, kept=None)

    async def on_promote(self, event: Event) -> None:
        job = self.jobs[event.key]
        promoted = await self.harness.scripts.promote(self.harness.keys.job_id(event.key))
        assert promoted == (job.place == "delayed")
        if promoted:
            job.due = 0

    async def on_delete(self, event: Event) -> None:
        job = self.jobs[event.key]
        answer = await self.harness.scripts.delete(self.harness.keys.job_id(event.key))
        assert answer == (0 if job.token else -1 if job.place == "gone" else 1)
        if answer == 1:
            self.jobs[event.key] = Job()

    async def on_stock_abort(self, event: Event) -> None:
        job = self.jobs[event.key]
        if job.exists:  # a client has to hold the job to abort it
            await self.harness.stock_abort(event.key)
            self.jobs[event.key] = replace(job, live=False, due=0)

    async def on_finalise(self, event: Event) -> None:
        job = self.jobs[event.key]
        stored = await self.harness.redis("GET", self.harness.keys.job_id(event.key)) or b""
        ended = document("q", event.key, status="aborted")
        done = await self.harness.scripts.finalise_abort(self.harness.keys.job_id(event.key), stored, ended, b"{}")
        assert done == (job.place == "limbo")
        if done:
            self.jobs[event.key] = Job(exists=True, kept="cancelled")

    async def on_die(self, event: Event) -> None:
        """A daemon dies, and its next life takes back what it held."""
        host, old = event.key, self.instances[event.key]
        new = self.instances[host] = f"{host}-{next(self._numbers)}"
        held = {key: job for key, job in self.jobs.items() if job.token and job.token.startswith(f"{old}:")}
        token = self.harness.token(new)
        step = await self.harness.scripts.recover(new, f"{host}-", token)
        assert step.cursor == "0"
        expected = {key: self.expected_outcome(job) for key, job in held.items()}
        assert {self.harness.keys.key_of(job_id): outcome for job_id, _, outcome in step.ended} == {
            key: outcome for key, outcome in expected.items() if outcome
        }
        assert step.returned == sum(outcome is None for outcome in expected.values())
        for key, job in held.items():
            assert job.token
            self.past.append((key, job.token))
            self.jobs[key] = await self.after_death(key, job, expected[key], token)

    def expected_outcome(self, job: Job) -> str | None:
        """What recovery should say of a job; None when it just comes back."""
        if not job.live:
            return "aborted"
        if job.begun:
            return "unknown"
        return "poison" if job.crash_count + 1 >= POISON_AFTER_CRASHES else None

    async def after_death(self, key: str, job: Job, outcome: str | None, token: str) -> Job:
        """The job once its outcome is settled."""
        if outcome is None:
            return replace(job, token=None, begun=False, crash_count=job.crash_count + 1)
        kind = {"aborted": AckKind.ABORTED, "unknown": AckKind.UNKNOWN, "poison": AckKind.FAILED}[outcome]
        assert await self.harness.settle(key, token, kind) == "done"
        return Job(exists=True, kept=PLACES[kind])

    # The end

    async def finish(self) -> None:
        """Everything ends and is trimmed: of the jobs nothing is left, whatever happened to them."""
        await self.on_forward(Event("forward", number=60_000))
        for _ in range(20):
            while self.running:
                await self.on_settle(Event("settle"))
            await self.on_claim(Event("claim", key="a", nth=4))
            await self.on_isolated(Event("isolated", key="b"))
            if not self.running:
                break
        assert not any(job.live for job in self.jobs.values())
        await self.sweep()
        await self.compare()
        keep_none = ScriptHarness(
            self.harness.store, QueueSettings("q", keep_completed=0, keep_failed=0, keep_min_seconds=0)
        )
        await keep_none.scripts.trim()
        left = [name async for name in self.harness.store.redis.scan_iter()]
        lasting = {self.harness.keys._own(part) for part in LASTING} | {NOW_KEY}
        assert [name for name in left if name.decode() not in lasting and await self.ttl(name) == -1] == []

    async def ttl(self, name: bytes) -> Any:
        return await self.harness.redis("TTL", name)

    async def sweep(self) -> None:
        """The janitor ends what lies in no structure, and only that."""
        _, lost = await scripts.sweep_step(self.harness.store, [self.harness.scripts], "0", 1_000)
        found = {self.harness.keys.key_of(job_id) for job_id in lost}
        limbo = {key for key, job in self.jobs.items() if job.place == "limbo"}
        assert limbo <= found
        for key in found:
            await self.on_finalise(Event("finalise", key))


DIES_TWICE = [
    Event("enqueue", "k0"),
    Event("claim", "a", nth=1),
    Event("die", "a"),
    Event("claim", "a", nth=1),
    Event("die", "a"),
]
ISOLATED = Event("isolated", "a")
PUT_OFF = Event("settle", kind=AckKind.SNOOZE, number=500)


@MODEL
@given(story=st.lists(events(), min_size=10, max_size=60))
@example(story=[*DIES_TWICE, ISOLATED, Event("settle", kind=AckKind.RETURN)])
def test_any_order_of_events_loses_doubles_and_leaves_nothing(workbench: Bench, story: list[Event]) -> None:
    async def scenario(store: Store, clock: StoreClock) -> None:
        life = Life(store, clock)
        for event in story:
            await life.play(event)
        await life.finish()

    workbench.run(scenario)


@pytest.mark.parametrize(
    "waits_again",
    [
        pytest.param([ISOLATED, Event("settle", kind=AckKind.RETURN)], id="given back"),
        pytest.param([ISOLATED, Event("settle", kind=AckKind.RETRY)], id="retried"),
        pytest.param([ISOLATED, PUT_OFF, Event("forward", number=500)], id="due"),
        pytest.param([ISOLATED, PUT_OFF, Event("promote", "k0")], id="promoted"),
        pytest.param([Event("stock_abort", "k0"), Event("requeue", "k0")], id="queued by hand"),
    ],
)
async def test_a_job_with_which_a_daemon_died_twice_starts_only_in_isolation(
    store: Store, clock: StoreClock, waits_again: list[Event]
) -> None:
    life = Life(store, clock)
    for event in [*DIES_TWICE, *waits_again, Event("enqueue", "k1"), Event("claim", "b", nth=4)]:
        await life.play(event)
    assert life.running == ["k1"]
    await life.play(ISOLATED)
    assert life.running == ["k0", "k1"]
    await life.finish()
