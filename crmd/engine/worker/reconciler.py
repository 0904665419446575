"""Reconciles the leases that the store says we hold with the jobs that we hold."""

from __future__ import annotations

from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts
from crmd.engine.worker.acks import AckBuffer, ack_of_recovered
from crmd.engine.worker.context import Clock
from crmd.engine.worker.executor import Executor


class Reconciler:
    """For one worker. To be run while no claim is under way: what that brings is leased and not held yet."""

    def __init__(
        self,
        scripts: QueueScripts,
        executor: Executor,
        acks: AckBuffer,
        clock: Clock,
        instance_id: str,
    ) -> None:
        self._scripts = scripts
        self._executor = executor
        self._acks = acks
        self._clock = clock
        self._ours = f"{instance_id}:"

    async def run_once(self) -> None:
        """Gives back what is leased to us and not held; stops what is held and no longer leased to us."""
        leases = await self._scripts.leases()
        held = self._executor.executions
        orphaned = [
            (job_id, token)
            for job_id, token in leases.items()
            if token.startswith(self._ours) and job_id not in held and job_id not in self._acks
        ]
        for start in range(0, len(orphaned), MAX_JOBS_PER_CALL):
            await self._give_back(orphaned[start : start + MAX_JOBS_PER_CALL])
        self._executor.stop_lost(leases)

    async def _give_back(self, orphaned: list[tuple[str, str]]) -> None:
        """Queues what is leased to us and not held; ends what recovery took over and could not settle."""
        started = await self._scripts.effect_tokens([job_id for job_id, _ in orphaned])
        returns = [Ack(job_id, token, AckKind.RETURN) for job_id, token in orphaned if started[job_id] != token]
        _, aborted = await self._scripts.settle(returns) if returns else ([], [])
        ends = {job_id: "unknown" for job_id, token in orphaned if started[job_id] == token}
        ends |= dict.fromkeys(aborted, "aborted")
        tokens = dict(orphaned)
        for found in await self._scripts.inspect(list(ends)):
            end, token, document = ends[found.job_id], tokens[found.job_id], found.document or b""
            now = self._clock.now()
            self._acks.add(ack_of_recovered(self._scripts.keys, found.job_id, token, document, end, now))
