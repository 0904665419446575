"""The worker of one queue: its trips to the store, and what it waits for between them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from crmd.engine.store.replies import Ack, AckKind, Claimed, TripReply
from crmd.engine.worker.acks import AckBuffer, ack_of_aborted, is_written
from crmd.engine.worker.background import BackgroundTasks
from crmd.engine.worker.context import WorkerContext
from crmd.engine.worker.execution import CancelReason, Execution
from crmd.engine.worker.executor import ExecutionMonitor, Executor, ExecutorParts
from crmd.engine.worker.next_claim import LanePeek, NextClaim
from crmd.engine.worker.reconciler import Reconciler
from crmd.errors import StoreError, StoreUnavailable
from crmd.jobs import Catalog
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

_log = logging.getLogger(__name__)


class QueueWorker:
    """Takes the jobs of one queue, runs them and settles what became of them.

    A trip to the store carries all acks of the moment in one settle and asks for free slots in one claim. Two
    pumps make trips, so that jobs run while the store works. `start`, `drain` and `stop` are its life.
    """

    def __init__(
        self,
        name: str,
        context: WorkerContext,
        catalog: Catalog,
        resources: Mapping[type, Any],
        plain_context: Callable[[Execution], dict[str, Any]],
    ) -> None:
        """`resources`: what handlers ask for by class. `plain_context`: the first argument of plain functions."""
        self.name = name
        """Of the queue."""
        self.scripts = context.control.inspector.queue(name)
        self.degraded: str | None = None
        """Why the queue does not work now, if so."""
        self._store, self._control, self._events = context.store, context.control, context.events
        self._tokens, self._isolation = context.tokens, context.isolation
        self._wake = asyncio.Event()
        self._background = BackgroundTasks()
        self.acks = AckBuffer(context.clock.monotonic)
        self.executor = Executor(
            self.scripts.settings,
            catalog,
            resources,
            ExecutorParts(
                scripts=self.scripts,
                control=context.control,
                clock=context.clock,
                events=context.events,
                acks=self.acks,
                threads=context.threads,
                background=self._background,
                plain_context=plain_context,
                ended=self._wake,
                report=self.report,
                instance_id=context.instance_id,
                log=context.log,
            ),
        )
        self._executions = self.executor.executions
        self._monitor = ExecutionMonitor(self.executor, context.clock, self._background)
        self._reconciler = Reconciler(self.scripts, self.executor, self.acks, context.clock, context.instance_id)
        self._reconciled = 0.0
        """Since when the connection stands that the leases were last compared on."""
        self._run_id = ""
        self.next_claim = NextClaim(context.clock.monotonic)
        self._peek = LanePeek(context.store, self.scripts.keys.queued, self.claim_now)
        self._accepting = False
        self._stopping = asyncio.Event()
        self._reserved = 0
        self._claim_returned = asyncio.Event()
        self._reconciling = asyncio.Lock()
        self._reply_at_hand = asyncio.Lock()
        """Held by the pump whose reply is worked on. Of replies that come together, the acks of what the first
        brought are sent before the jobs of the second begin. Else both pumps would send together again: from then
        on the store would idle while jobs run, and the jobs while it works."""
        self._pumps: list[asyncio.Task[None]] = []
        self._bugs = Throttle(BUG_LOGGED_EVERY_S)
        context.isolation.add(self)

    # Life

    def configure(self, catalog: Catalog, resources: Mapping[type, Any]) -> None:
        """Applies the registry's settings, other jobs and other clients.

        Attempts that run keep their time limit and their clients.
        """
        self.executor.configure(self.scripts.settings, catalog, resources)
        self.claim_now()

    async def start(self) -> None:
        """Begins to take jobs; returns at once."""
        if not self._pumps:
            self._accepting = True
            self._peek.start()
            name = f"queue {self.name}"
            self._pumps = [asyncio.create_task(self._run_pump(), name=name) for _ in range(PUMPS)]

    def stop_taking(self) -> None:
        """Takes no new job from now on."""
        self._accepting = False
        self.executor.give_back_fetched()
        self._stopping.set()
        self._peek.stop()
        self._wake.set()

    async def drain(self, timeout: float) -> bool:
        """Lets the running jobs end for up to `timeout` seconds; True when all did."""
        self.stop_taking()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._executions:
                    await self._until_fewer()
        return not self._executions

    def give_back(self) -> None:
        """Cancels what still runs; it goes back to the queue, attempt and delivery uncounted."""
        self.stop_taking()
        self.executor.cancel_all(CancelReason.DRAIN)

    async def stop(self) -> None:
        """Ends the pumps once everything is written, or at once where the store is unavailable; idempotent."""
        self.stop_taking()
        if not self._store.connected:
            self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)
            self._pumps = []
        self._monitor.stop()
        self._background.cancel()
        await self._peek.closed()

    def cut(self) -> None:
        """Ends the pumps now; what is not written stays in `acks`."""
        for pump in self._pumps:
            pump.cancel()

    # What others tell it

    @property
    def active(self) -> int:
        """How many jobs run now."""
        return self.executor.active

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and no claim is under way that may bring something to run."""
        return not self._executions and not self._reserved

    def claim_now(self) -> None:
        """Has the worker claim at once."""
        self.next_claim.ask()
        self._wake.set()

    def claim_within(self, seconds: float) -> None:
        """Claim again at the latest in this many seconds."""
        if self.next_claim.ask_in(seconds):
            self._wake.set()

    async def promote_due(self) -> None:
        """Queues what is due where all slots are busy: what comes later has to stand behind it."""
        for _ in range(PROMOTE_ROUNDS):
            if self._free_slots() or not self._accepting:
                return  # the next claim does it
            if await self.scripts.promote_due() != 0:
                return

    def runs(self, job_id: str) -> bool:
        """Whether the job runs here."""
        return job_id in self._executions

    def cancel(self, job_id: str, detail: str = "cancelled") -> bool:
        """Cancels a job that runs here; False when it does not."""
        execution = self._executions.get(job_id)
        if execution:
            self.executor.cancel(execution, CancelReason.ABORT, detail)
        return execution is not None

    # The pumps

    async def _run_pump(self) -> None:
        while self._accepting or self._executions or self.acks:
            try:
                self._wake.clear()
                if await self.make_trip():
                    self.degraded = None
                else:
                    await self._rest()
            except StoreUnavailable as error:
                if self._store.connected:  # it answers, only not to us, as while its replicas are unavailable
                    await self._pause_for(str(error))
                else:
                    self.degraded = str(error)
                    await self._wait_for_store()
            except StoreError as error:
                await self._pause_for(str(error))
            except Exception as error:  # a bug: it must not end the queue's work for good
                if self._bugs.allow(type(error).__name__) is not None:
                    _log.exception("queue %s failed, and goes on", self.name)
                await self._pause_for(f"{type(error).__name__}: {error}")

    async def make_trip(self) -> bool:
        """One trip to the store: settles what ended, claims for what is free. False when there was nothing to do.

        Raises StoreError; what was not settled goes with the next trip.
        """
        if self._unreconciled:
            await self._reconcile()
        # No await from here until both are noted: the other pump has to see them.
        acks, slots = self.acks.take_batch(), self._slots_to_claim()
        if not acks and not slots:
            return False
        token, asked = next(self._tokens), self.next_claim.asked
        if slots:
            self._reserved += slots
            self.next_claim.claiming()
        try:
            reply = await self.scripts.settle_and_claim(acks, token, slots)
            await self._reply_at_hand.acquire()
        except BaseException:
            self.acks.failed(acks)
            self.next_claim.now = self.next_claim.now or slots > 0
            raise
        finally:
            self._release(slots)
        try:
            if acks:
                self._note_written(acks, reply)
            if reply.claimed:
                self._begin_claimed(reply.claimed, token, asked)
                await asyncio.sleep(0)  # the jobs take their first step, and the shortest end
            elif reply.claim_error:
                self.next_claim.now = True
                raise reply.claim_error
        finally:
            self._reply_at_hand.release()
        return True

    def _slots_to_claim(self) -> int:
        """How many jobs to ask for now: half of the slots at most, so that one half runs while the other comes.

        Few slots are asked for all at once: a trip costs as much as several jobs.
        """
        if not self._accepting or self._isolation.active or (self._reserved and not self.next_claim.more):
            return 0
        if not self.next_claim.due:
            return 0
        return min(self._free_slots(), max(FEW_SLOTS, -(-self.executor.capacity // PUMPS)))

    def _free_slots(self) -> int:
        return max(0, self.executor.capacity - len(self._executions) - self._reserved)

    def _release(self, slots: int) -> None:
        self._reserved -= slots
        self._claim_returned.set()
        self._wake.set()

    def _begin_claimed(self, claimed: Claimed, token: str, asked: int) -> None:
        """Begins what a claim brought. `asked` tells whether somebody asked for one while it was under way."""
        if self._accepting:
            self.executor.begin(token, claimed)
            self._monitor.wake()
        else:  # the stop came during the trip: nothing starts after it
            for job_id, _, _ in claimed.jobs:
                self.acks.add(Ack(job_id, token, AckKind.RETURN))
        if claimed.invalid_ids:
            self.executor.set_aside_invalid(token, claimed)
        wait = self.next_claim.plan(claimed, asked)
        if wait is not None:
            self.claim_within(wait)
        self._peek.want(claimed.reason == "empty")
        if claimed.aborted_ids:
            self._background.start(self._finalise_aborts(claimed.aborted_ids))
        if claimed.crash_looping and self._accepting:
            self._isolation.request(self)

    async def run_isolated(self) -> bool:
        """Claims one job that crashed its daemons and runs it to its end; False when none could start."""
        token = next(self._tokens)
        self._reserved += 1
        try:
            claimed = await self.scripts.claim(token, 1, isolated=True)
        finally:
            self._release(1)
        executions = self.executor.begin(token, claimed)
        self._monitor.wake()
        while any(execution.job_id in self._executions for execution in executions):
            await self._until_fewer()
        return bool(claimed.jobs)

    async def _finalise_aborts(self, job_ids: list[str]) -> None:
        """Ends jobs that an abort took out of the queue's indexes."""
        with contextlib.suppress(StoreError):  # the janitor meets them again
            for job_id in job_ids:
                await self._control.finalise_abort(self.name, job_id)

    # What the store took

    def _note_written(self, acks: list[Ack], reply: TripReply) -> None:
        unwritten = {*reply.stale, *reply.aborted}
        refused, doubtful = self.acks.written(acks, unwritten.difference(reply.aborted))
        if unwritten:
            self.announce([ack for ack in acks if ack.job_id not in unwritten])
            self._announce_stale(refused)
            if doubtful:
                self._background.start(self._settle_doubts(doubtful))
        else:
            self.announce(acks)
        for ack in acks:
            if not ack.kind.final:
                self.claim_within(ack.number / 1000)
            if reply.aborted and ack.job_id in reply.aborted:
                self.acks.add(ack_of_aborted(ack))
                self._wake.set()

    def announce(self, acks: Iterable[Ack]) -> None:
        """Emits, once, what became of jobs, now that it is written: one event for all that completed."""
        completed = []
        for ack in acks:
            announced = ack.event
            if not announced:
                continue
            ack.event = ()  # the ack is kept for a while, and need not keep that
            if ack.kind is AckKind.COMPLETE:
                completed.append(announced)
            else:
                event, fields = announced
                self._events.emit(event, **fields)
        if completed:
            self._events.emit("job.completed", queue=self.name, jobs=completed)

    def _announce_stale(self, acks: Iterable[Ack]) -> None:
        for ack in acks:
            key = self.scripts.keys.key_of(ack.job_id)
            self._events.emit("job.stale", queue=self.name, key=key)

    async def _settle_doubts(self, acks: list[Ack]) -> None:
        """Finds out which acks the store refused because it had them: the answer to a first writing was lost."""
        with contextlib.suppress(StoreError):
            found = await self.scripts.inspect([ack.job_id for ack in acks], timeline=True)
            ours = [ack for ack, one in zip(acks, found, strict=True) if is_written(ack, one)]
            self.announce(ours)
            self._announce_stale(ack for ack in acks if ack not in ours)

    # The store comes and goes

    @property
    def _unreconciled(self) -> bool:
        """Whether the connection is another than that of the last reconciling."""
        return self._reconciled != self._store.connected_since and self._store.connected

    async def _reconcile(self) -> None:
        async with self._reconciling:
            # What a claim brings is leased to us and not held yet. The other pump may have reconciled meanwhile,
            # and waits for nobody then.
            while self._unreconciled and self._reserved:
                self._claim_returned.clear()
                await self._claim_returned.wait()
            if self._unreconciled:
                if self._run_id and self._run_id != self._store.run_id:
                    self.acks.resend(self._executions)  # the store restarted: its last second is written again
                await self._reconciler.run_once()
                self._reconciled, self._run_id = self._store.connected_since, self._store.run_id

    async def reconcile(self) -> None:
        """Gives back what is leased to us and not held, when nothing is claimed any more."""
        await self._reconciler.run_once()

    def reconcile_soon(self) -> None:
        """Reconcile before the next trip, and claim: a wake-up may have been lost."""
        self._reconciled = 0.0
        self.claim_now()

    def report(self, reason: str) -> None:
        """Says, once, why the queue does not work. What the store refuses to all queues it has said itself."""
        if reason != self.degraded:
            self.degraded = reason
            if reason != self._store.refusal:
                self._events.emit("queue.degraded", queue=self.name, reason=reason)

    # Waiting

    async def _rest(self) -> None:
        if self._wake.is_set():
            return
        timer: asyncio.TimerHandle | None = None
        delay = self.next_claim.delay
        if delay is not None and self._accepting and self._free_slots() and not self._isolation.active:
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer:
                timer.cancel()

    async def _pause_for(self, reason: str) -> None:
        """Waits a while after an error. Only the stop cuts that short: the other pump's errors wake us too."""
        self.report(reason)
        if self._stopping.is_set():
            await asyncio.sleep(STOPPING_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ERROR_PAUSE_S):
                await self._stopping.wait()
        self.next_claim.now = True

    async def _wait_for_store(self) -> None:
        self._peek.want(False)
        while not self._store.connected:
            if not self._accepting and not self._executions:
                await self._sleep(0.05)  # the supervisor cuts us when the time is up
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._store.wait_connected()
        self.next_claim.now = True

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _until_fewer(self) -> None:
        tasks = [execution.task for execution in self._executions.values() if execution.task]
        if tasks:
            await asyncio.wait(tasks, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0)
