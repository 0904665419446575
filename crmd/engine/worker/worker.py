"""The worker of one queue: claims, runs, settles, and waits for what comes next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

import saq

from crmd.engine.codec import decode, encode
from crmd.engine.saq.plain import take_update
from crmd.engine.saq.queue import CrmQueue
from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Ack, AckKind, Claimed, TripReply
from crmd.engine.worker import aftermath
from crmd.engine.worker.ack_buffer import Outbox
from crmd.engine.worker.context import Engine
from crmd.engine.worker.execution import CancelReason
from crmd.engine.worker.lane_peek import Peek
from crmd.engine.worker.monitor import RunWatch
from crmd.engine.worker.next_claim import NextClaim
from crmd.engine.worker.reconciler import Reconciler
from crmd.engine.worker.runner import Runner
from crmd.errors import StoreError, StoreUnavailable
from crmd.telemetry.throttle import Throttle

STOPPING_PAUSE_S = 0.05
ERROR_PAUSE_S = 1.0
"""After the store refused something, such as a key of the wrong type, the queue tries again so often."""
BUG_LOGGED_EVERY_S = 30.0
PROMOTE_ROUNDS = 20
"""Of 200 jobs each, once a second."""
PUMPS = 2
"""Trips to the store under way at once: one fetches while what the other brought runs."""
FEW_SLOTS = 10
NO_CLAIM = -1

_log = logging.getLogger(__name__)


class CrmWorker(saq.Worker[Any]):
    """A SAQ worker that takes, finishes, retries and stops jobs in crmd's way. One for each queue.

    A trip to the store carries all outcomes of the moment in one settle and asks for free slots in one claim. Two
    pumps take turns, so that jobs run while the store works. `start`, `drain` and `stop` are its life; `process`
    is one turn.
    """

    SIGNALS = []  # noqa: RUF012 - signals belong to the daemon; SAQ's worker would take them

    def __init__(self, queue: CrmQueue, engine: Engine) -> None:
        super().__init__(queue, functions=(), id=engine.epoch, concurrency=queue.settings.concurrency)
        self.engine = engine
        self.settings = queue.settings
        self.scripts = queue.scripts
        self.degraded: str | None = None
        """Why the queue does not work now, if so."""
        self.outbox = Outbox(engine.monotonic)
        self.runner = Runner(self)
        self._runs = self.runner.runs
        self.watch = RunWatch(engine, self.scripts, self.runner, self.chore)
        self._reconciler = Reconciler(engine, self.scripts, self._runs, self.outbox)
        self._accepting = False
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self.next_claim = NextClaim(engine.monotonic)
        self._reserved = 0
        self._claim_returned = asyncio.Event()
        self._reconciling = asyncio.Lock()
        self._pumps: list[asyncio.Task[None]] = []
        self._bugs = Throttle(BUG_LOGGED_EVERY_S)
        self._chores: set[asyncio.Task[None]] = set()
        self._peek = Peek(engine.store, self.scripts.keys.queued, self.look)
        engine.gate.add(self)
        queue.running = self

    # Life

    def configure(self, settings: QueueSettings) -> None:
        """Applies other settings; attempts that run keep the time limit that they began with."""
        self.settings = settings
        self.look()

    async def start(self) -> None:
        """Begins to take jobs; returns at once."""
        if not self._pumps:
            self._accepting = True
            self._peek.start()
            name = f"queue {self.settings.name}"
            self._pumps = [asyncio.create_task(self._run_pump(), name=name) for _ in range(PUMPS)]

    def stop_taking(self) -> None:
        """Takes no new job from now on."""
        self._accepting = False
        self.runner.give_back_fetched()
        self._stopping.set()
        self._peek.stop()
        self._wake.set()

    async def drain(self, timeout: float) -> bool:
        """Lets the running jobs end for up to `timeout` seconds; True when all did."""
        self.stop_taking()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._runs:
                    await self._until_fewer()
        return not self._runs

    def give_back(self) -> None:
        """Cancels what still runs; it goes back to the queue, attempt and delivery uncounted."""
        self.stop_taking()
        now = self.engine.monotonic()
        for run in list(self._runs.values()):
            run.cancel(CancelReason.DRAIN, now)

    def abandon_all(self) -> None:
        """Writes the outcomes of handlers that did not end when cancelled."""
        for run in list(self._runs.values()):
            run.cancel(CancelReason.DRAIN, self.engine.monotonic())
            self.runner.abandon(run)

    async def stop(self) -> None:
        """Ends the pumps once everything is written, or at once where the store is away. Fine twice."""
        self.stop_taking()
        if not self.engine.store.connected:
            self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)
            self._pumps = []
        self.watch.stop()
        for chore in list(self._chores):
            chore.cancel()
        await self._peek.closed()

    def cut(self) -> None:
        """Ends the pumps now; what is not written stays in `unsettled`."""
        for pump in self._pumps:
            pump.cancel()

    def unsettled(self) -> list[Ack]:
        """Outcomes that are not written yet."""
        return self.outbox.unwritten()

    # What others tell it

    @property
    def active(self) -> int:
        """Jobs that run now."""
        return self.runner.active

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and no claim is under way that may bring something to run."""
        return not self._runs and not self._reserved

    @property
    def accepting(self) -> bool:
        """Whether it takes jobs."""
        return self._accepting

    def wake(self) -> None:
        """Something ended: there is an outcome to write, and a slot to fill."""
        self._wake.set()

    def look(self) -> None:
        """Claim again now."""
        self.next_claim.ask()
        self._wake.set()

    def look_in(self, seconds: float) -> None:
        """Claim again at the latest in so many seconds."""
        if self.next_claim.ask_in(seconds):
            self._wake.set()

    async def promote_due(self) -> None:
        """Queues what is due where all slots are busy: what comes later has to stand behind it."""
        for _ in range(PROMOTE_ROUNDS):
            if self._free_slots() or not self._accepting:
                return  # the next claim does it
            if (await self.scripts.claim(self.engine.next_token(), 0)).due_ms != 0:
                return

    def runs(self, job_id: str) -> bool:
        """Whether the job runs here."""
        return job_id in self._runs

    def cancel(self, job_id: str, detail: str = "cancelled") -> bool:
        """Cancels a job that runs here; False when it does not."""
        run = self._runs.get(job_id)
        if run:
            run.cancel(CancelReason.ABORT, self.engine.monotonic(), detail)
        return run is not None

    async def store_update(self, job: saq.Job) -> bool:
        """Stores what a handler changed in its job; False where the job does not run here."""
        run = self._runs.get(self.scripts.keys.job_id(job.key))
        if run is None:
            return False
        take_update(run, job)
        await self.watch.mark([run])
        return True

    # One turn of the pump

    async def process(self) -> bool:
        """One trip to the store: settle what ended, claim for what is free. False when there was nothing to do."""
        if self._reconciler.needed:
            await self._reconcile()
        # No await from here until both are noted: the other pump has to see them.
        outcomes, slots = self.outbox.take(), self._slots_to_claim()
        if not outcomes and not slots:
            return False
        token, asked = self.engine.next_token(), self.next_claim.asked
        if slots:
            self._reserved += slots
            self.next_claim.begun()
        try:
            turn = await self.scripts.settle_and_claim(outcomes, token, slots or NO_CLAIM)
        except BaseException:
            self.outbox.failed(outcomes)
            self.next_claim.now = self.next_claim.now or slots > 0
            raise
        finally:
            self._release(slots)
        if outcomes:
            self._note_written(outcomes, turn)
        if turn.claimed:
            self._take(turn.claimed, token, asked)
        elif turn.claim_error:
            self.next_claim.now = True
            raise turn.claim_error
        return True

    async def run_alone(self) -> bool:
        """Claims one suspect and runs it to its end; False when none could start."""
        token = self.engine.next_token()
        self._reserved += 1
        try:
            claimed = await self.scripts.claim(token, 1, isolated=True)
        finally:
            self._release(1)
        runs = self.runner.begin(token, claimed)
        while any(run.job_id in self._runs for run in runs):
            await self._until_fewer()
        return bool(claimed.jobs)

    async def _run_pump(self) -> None:
        while self._accepting or self._runs or self.outbox:
            try:
                self._wake.clear()
                if await self.process():
                    self.degraded = None
                else:
                    await self._rest()
            except StoreUnavailable as error:
                if self.engine.store.connected:  # it answers, only not to us, as while its replicas are away
                    await self._pause_for(str(error))
                else:
                    self.degraded = str(error)
                    await self._wait_for_store()
            except StoreError as error:
                await self._pause_for(str(error))
            except Exception as error:  # a bug: it must not end the queue's work for good
                if self._bugs.allow(type(error).__name__) is not None:
                    _log.exception("queue %s failed, and goes on", self.settings.name)
                await self._pause_for(f"{type(error).__name__}: {error}")

    async def _pause_for(self, reason: str) -> None:
        """Waits a while after an error. Only the stop cuts that short: the other pump's errors wake us too."""
        self.report(reason)
        if self._stopping.is_set():
            await asyncio.sleep(STOPPING_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ERROR_PAUSE_S):
                await self._stopping.wait()
        self.next_claim.now = True

    def _note_written(self, outcomes: list[Ack], turn: TripReply) -> None:
        unwritten = {*turn.stale, *turn.aborted}
        refused, doubtful = self.outbox.written(outcomes, unwritten.difference(turn.aborted))
        if unwritten:
            self.tell([outcome for outcome in outcomes if outcome.job_id not in unwritten])
            self.tell_stale(refused)
            if doubtful:
                self.chore(aftermath.settle_doubts(self, doubtful))
        else:
            self.tell(outcomes)
        for outcome in outcomes:
            if not outcome.kind.final:
                self.look_in(outcome.number / 1000)
            if turn.aborted and outcome.job_id in turn.aborted:
                self._end_taken(outcome)

    def tell(self, outcomes: Iterable[Ack]) -> None:
        """Says, once, what became of jobs, now that it is written: one event for all that completed."""
        completed = []
        for outcome in outcomes:
            news = outcome.event
            if not news:
                continue
            outcome.event = ()  # the outcome is kept for a while, and need not keep that
            if outcome.kind is AckKind.COMPLETE:
                completed.append(news)
            else:
                event, fields = news
                self.engine.events.emit(event, **fields)
        if completed:
            self.engine.events.emit("job.completed", queue=self.settings.name, jobs=completed)

    def tell_stale(self, outcomes: Iterable[Ack]) -> None:
        """Says that outcomes came too late."""
        for outcome in outcomes:
            key = self.scripts.keys.key_of(outcome.job_id)
            self.engine.events.emit("job.stale", queue=self.settings.name, key=key)

    def _take(self, claimed: Claimed, token: str, asked: int) -> None:
        """Begins what a claim brought. `asked` tells whether somebody asked for one while it was under way."""
        if self._accepting:
            self.runner.begin(token, claimed)
        else:  # the stop came during the trip: nothing starts after it
            for job_id, _, _ in claimed.jobs:
                self.outbox.add(Ack(job_id, token, AckKind.RETURN))
        for raw_id, document in claimed.invalid_ids:
            self.chore(aftermath.quarantine(self, token, raw_id, document, "its id is no UTF-8"))
        wait = self.next_claim.plan(claimed, asked)
        if wait is not None:
            self.look_in(wait)
        self._peek.want(claimed.reason == "empty")
        if claimed.aborted_ids:
            self.chore(aftermath.finalise(self, claimed.aborted_ids))
        if claimed.crash_looping and self._accepting:
            self.engine.gate.request(self)

    def _release(self, slots: int) -> None:
        self._reserved -= slots
        self._claim_returned.set()
        self._wake.set()

    def _end_taken(self, outcome: Ack) -> None:
        """An abort took the job while it was being put back: it ends as cancelled."""
        document = outcome.document
        if document:
            document = encode({**decode(document), "status": "aborted", "error": "cancelled"})
        ended = Ack(outcome.job_id, outcome.token, AckKind.ABORTED, document)
        if outcome.event:
            ended.event = ("job.cancelled", {**outcome.event[1], "error": "cancelled"})
        self.outbox.add(ended)
        self._wake.set()

    # The store comes and goes

    async def _reconcile(self) -> None:
        async with self._reconciling:
            # What a claim brings is leased to us and not held yet. The other pump may have reconciled meanwhile,
            # and waits for nobody then.
            while self._reconciler.needed and self._reserved:
                self._claim_returned.clear()
                await self._claim_returned.wait()
            if self._reconciler.needed:
                await self._reconciler.run_once()

    async def reconcile(self) -> None:
        """Gives back what is leased to us and not held, when nothing is claimed any more."""
        await self._reconciler.compare()

    def reconcile_soon(self) -> None:
        """Reconcile before the next trip, and claim: a wake-up may have been lost."""
        self._reconciler.ask()
        self.look()

    async def _wait_for_store(self) -> None:
        self._peek.want(False)
        while not self.engine.store.connected:
            if not self._accepting and not self._runs:
                await self._sleep(0.05)  # the supervisor cuts us when the time is up
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.engine.store.wait_connected()
        self.next_claim.now = True

    # Small parts

    def _free_slots(self) -> int:
        return max(0, self.runner.capacity - len(self._runs) - self._reserved)

    def _slots_to_claim(self) -> int:
        """How many jobs to ask for now: half of the slots at most, so that one half runs while the other comes.

        Few slots are asked for all at once: a trip costs as much as several jobs.
        """
        if not self._accepting or self.engine.gate.closed or (self._reserved and not self.next_claim.more):
            return 0
        if not self.next_claim.due:
            return 0
        return min(self._free_slots(), max(FEW_SLOTS, -(-self.runner.capacity // PUMPS)))

    async def _rest(self) -> None:
        if self._wake.is_set():
            return
        timer: asyncio.TimerHandle | None = None
        delay = self.next_claim.delay
        if delay is not None and self._accepting and self._free_slots() and not self.engine.gate.closed:
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer:
                timer.cancel()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _until_fewer(self) -> None:
        tasks = [run.task for run in self._runs.values() if run.task]
        if tasks:
            await asyncio.wait(tasks, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0)

    def chore(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something beside the trips, until the worker stops."""
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def report(self, reason: str) -> None:
        """Says, once, why the queue does not work. What the store refuses to all queues it has said itself."""
        if reason != self.degraded:
            self.degraded = reason
            if reason != self.engine.store.refusal:
                self.engine.events.emit("queue.degraded", queue=self.settings.name, reason=reason)
