"""Hears at once what happens in the store: our wake-ups and cancels, and aborts by plain SAQ clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from crmd.component import BackgroundTask
from crmd.engine.admin.control import Control
from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.worker.worker import QueueWorker
from crmd.errors import StoreError

INVALIDATIONS = "__redis__:invalidate"
"""Where the store tells which keys of a tracked prefix were written."""
ABORT_PAUSE_S = 0.2
"""A plain client that aborts a waiting job finishes it itself, in a second step: it goes first."""
RECONNECT_S = 1.0
PING_EVERY_S = 10.0
"""A connection that answers no ping for as long again is dead, though nobody closed it."""

_log = logging.getLogger(__name__)


class WakeListener(BackgroundTask):
    """One subscribed connection for all queues. What it misses, the maintenance tick and the janitor find."""

    def __init__(self, store: Store, control: Control, workers: Mapping[str, QueueWorker]) -> None:
        super().__init__("wake")
        self._store = store
        self._control = control
        self._workers = workers
        self._chores: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        """Set while it listens."""

    async def stop(self) -> None:
        """Ends, with the chores under way."""
        await super().stop()
        chores = list(self._chores)
        for chore in chores:
            chore.cancel()
        if chores:
            await asyncio.wait(chores)

    async def _run(self) -> None:
        while True:
            await self._store.wait_connected()
            try:
                connection = await self._store.dedicated_connection()
                try:
                    await self._listen(connection)
                finally:
                    self.ready.clear()
                    await connection.disconnect(nowait=True)
            except (RedisError, OSError) as error:
                _log.debug("the wake channel was cut: %s", error)
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self, connection: AbstractConnection) -> None:
        await self._track_aborts(connection)
        await connection.send_command("SUBSCRIBE", keys.WAKE_CHANNEL, check_health=False)
        silent = False
        while True:
            message = await connection.read_response(disable_decoding=True, timeout=PING_EVERY_S)
            if message is not None:
                silent = False
                self._heard(*message)
            elif silent:
                raise ConnectionError("no answer to a ping")
            else:
                silent = True
                await connection.send_command("PING", check_health=False)

    def _heard(self, kind: bytes, channel: bytes, data: Any = None) -> None:
        if kind == b"subscribe":
            self.ready.set()
            for worker in self._workers.values():
                worker.claim_now()
        elif kind == b"message" and channel == INVALIDATIONS.encode():
            for key in data or ():
                self._chore(self._external_abort(key.decode("utf-8", "replace")))
        elif kind == b"message":
            self._woken(data.decode("utf-8", "replace"))

    async def _track_aborts(self, connection: AbstractConnection) -> None:
        """SAQ clients abort by writing `saq:abort:KEY`: the store is asked to tell of each such write."""
        try:
            await connection.send_command("CLIENT", "ID", check_health=False)
            own = await connection.read_response()
            tracking = ("TRACKING", "ON", "REDIRECT", own, "BCAST", "PREFIX", keys.ABORT_PREFIX)
            await connection.send_command("CLIENT", *tracking, check_health=False)
            await connection.read_response()
            # Apart from the wake channel: a user who may not listen here hears that one all the same.
            await connection.send_command("SUBSCRIBE", INVALIDATIONS, check_health=False)
            await connection.read_response()
        except ResponseError as error:
            _log.info("aborts by SAQ clients are noticed within a second only: %s", error)

    def _woken(self, message: str) -> None:
        verb, _, job_id = message.partition(" ")
        if verb == "cancel":
            for worker in self._workers.values():
                if job_id.startswith(worker.scripts.keys.job_prefix):
                    worker.cancel(job_id)
        elif message in self._workers:
            self._workers[message].claim_now()

    async def _external_abort(self, key: str) -> None:
        job_key = key.removeprefix(keys.ABORT_PREFIX)
        await asyncio.sleep(ABORT_PAUSE_S)
        for name, worker in list(self._workers.items()):
            job_id = worker.scripts.keys.job_id(job_key)
            with contextlib.suppress(StoreError):  # the janitor finds it later
                if worker.runs(job_id):
                    await worker.executor.check()
                else:
                    await self._control.finalise_abort(name, job_id)
        # It has done its work; while it stands SAQ clients are refused the key, in every queue.
        with contextlib.suppress(StoreError):
            await self._store.command("UNLINK", key)

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
