"""Brings what the store says is leased to us and what we hold into line."""

from __future__ import annotations

from crmd.engine.maintenance.recoverer import outcome_of_fate
from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts
from crmd.engine.worker.ack_buffer import Outbox
from crmd.engine.worker.context import Engine
from crmd.engine.worker.execution import CancelReason, Run


class Reconciler:
    """For one worker. To be run while no claim is under way: what that brings is leased and not held yet."""

    def __init__(self, engine: Engine, scripts: QueueScripts, runs: dict[str, Run], outbox: Outbox) -> None:
        self._engine = engine
        self._scripts = scripts
        self._runs = runs
        self._outbox = outbox
        self._connection = 0.0
        self._run_id = ""

    @property
    def needed(self) -> bool:
        """Whether the connection is another than that of the last time."""
        store = self._engine.store
        return store.connected and self._connection != store.connected_since

    def ask(self) -> None:
        """Makes it needed."""
        self._connection = 0.0

    async def run_once(self) -> None:
        """After a reconnect; where the store restarted, its last second is written again."""
        store = self._engine.store
        if self._run_id and self._run_id != store.run_id:
            self._outbox.resend(self._runs)
        await self.compare()
        self._connection, self._run_id = store.connected_since, store.run_id

    async def compare(self) -> None:
        """Gives back what is leased to us and not held; stops what is held and no longer leased to us."""
        leases = await self._scripts.leases()
        ours = f"{self._engine.epoch}:"
        strays = [
            (job_id, token)
            for job_id, token in leases.items()
            if token.startswith(ours) and job_id not in self._runs and job_id not in self._outbox
        ]
        for start in range(0, len(strays), MAX_JOBS_PER_CALL):
            await self._give_back(strays[start : start + MAX_JOBS_PER_CALL])
        now = self._engine.monotonic()
        for run in list(self._runs.values()):
            if leases.get(run.job_id) != run.token:
                run.cancel(CancelReason.LOST, now)

    async def _give_back(self, strays: list[tuple[str, str]]) -> None:
        """Queues what is leased to us and not held; ends what recovery took over and could not settle."""
        begun = await self._scripts.effect_tokens([job_id for job_id, _ in strays])
        returns = [Ack(job_id, token, AckKind.RETURN) for job_id, token in strays if begun[job_id] != token]
        _, taken = await self._scripts.settle(returns) if returns else ([], [])
        fates = {job_id: "unknown" for job_id, token in strays if begun[job_id] == token}
        fates |= dict.fromkeys(taken, "aborted")
        tokens = dict(strays)
        for found in await self._scripts.inspect(list(fates)):
            fate, token, document = fates[found.job_id], tokens[found.job_id], found.document or b""
            now = self._engine.now()
            self._outbox.add(outcome_of_fate(self._scripts.keys, found.job_id, token, document, fate, now))
