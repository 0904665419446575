"""Reads queues and jobs; changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from crmd.engine.admin.listing import INLINE_BYTES, Listing
from crmd.engine.admin.stats import TIMES, counts_of, metrics_of, totals_of
from crmd.engine.admin.view import present_state, view_of
from crmd.engine.admin.views import (
    DaemonInfo,
    JobPage,
    JobView,
    Quarantined,
    QueueCounts,
    QueueMetrics,
    QueueTotals,
    State,
)
from crmd.engine.codec import Unreadable, decode
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.store.replies import RawCounts, text
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts, ScriptsByQueue
from crmd.errors import JobNotFound, StoreError, StoreUnavailable

PERCENTILE_SAMPLE = 100
"""Kept completed jobs that wait and run times are taken from."""
SAMPLE_BATCH = 25
SAMPLE_BYTES = 4 * 1024 * 1024
"""Of these jobs' JSON: of larger ones fewer are looked at."""
DAEMONS_SHOWN = 1_000


class Inspector:
    """What queues hold, and how they are doing. Every method raises StoreUnavailable if the store is."""

    def __init__(self, store: Store, registry: SettingsRegistry) -> None:
        self.store = store
        self.registry = registry
        self._decoding = asyncio.Lock()
        self.scripts = ScriptsByQueue(store, registry)

    @property
    def settings(self) -> Mapping[str, QueueSettings]:
        """The settings in force, by queue."""
        return self.registry.queues

    def queue(self, name: str) -> QueueScripts:
        """The scripts of one queue; raises UnknownQueue that lists the names."""
        return self.scripts[name]

    async def counts(self, queue: str) -> QueueCounts:
        """The jobs of one queue by state, its limit and its pause; raises UnknownQueue."""
        return counts_of(await self.queue(queue).counts(), self.settings[queue])

    async def all_counts(self) -> dict[str, QueueCounts]:
        """Counts of every queue, in one trip."""
        settings = self.settings
        return {name: counts_of(raw, settings[name]) for name, raw in (await self._raw_counts()).items()}

    async def totals(self) -> dict[str, QueueTotals]:
        """All-time counters of every queue."""
        return {name: totals_of(name, raw) for name, raw in (await self._raw_counts()).items()}

    async def metrics(self) -> dict[str, QueueMetrics]:
        """Counts, throughput, wait and run times of every queue."""
        names = list(self.settings)
        return dict(zip(names, await asyncio.gather(*map(self._metrics, names)), strict=True))

    async def jobs(
        self,
        queue: str,
        state: State | None = None,
        search: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """One page of a queue's jobs, newest first among the finished ones, next first among the waiting.

        `search` looks in key, name, payload and error. Raises UnknownQueue, and ValueError for a bad cursor.
        """
        listing = Listing(self.queue(queue), self.settings[queue])
        return await listing.page(state, search, cursor, limit)

    async def job(self, queue: str, key: str) -> JobView:
        """One job with its timeline; raises JobNotFound."""
        scripts = self.queue(queue)
        [found] = await scripts.inspect([scripts.keys.job_id(key)], timeline=True)
        view = view_of(found, self.settings[queue])
        if view is None:
            raise JobNotFound(f"queue {queue} holds no job with the key {key!r}; it may have been trimmed")
        return view

    async def states(self, queue: str, job_keys: Sequence[str]) -> list[State | None]:
        """The state of each job, as it ended where it is no longer kept and still holds its key, else None."""
        scripts = self.queue(queue)
        found: list[State | None] = []
        for start in range(0, len(job_keys), MAX_JOBS_PER_CALL):
            ids = [scripts.keys.job_id(key) for key in job_keys[start : start + MAX_JOBS_PER_CALL]]
            found += map(present_state, await scripts.inspect(ids))
        gone = [place for place, state in enumerate(found) if state is None]
        if gone:
            words = await self.store.command("MGET", *(scripts.keys.unique_prefix + job_keys[at] for at in gone))
            for place, word in zip(gone, words, strict=True):
                found[place] = State(text(word)) if word in (b"completed", b"unknown") else None
        return found

    async def quarantined(self, queue: str) -> list[Quarantined]:
        """The last 100 entries of a queue that could not be read, the newest first."""
        entries = await self.store.command("LRANGE", self.queue(queue).keys.quarantine, 0, -1)
        return [Quarantined(**orjson.loads(entry)) for entry in reversed(entries)]

    async def daemons(self) -> list[DaemonInfo]:
        """The live daemons, by their start."""
        found = [DaemonInfo.from_json(info) for (info,) in await self._of_daemons(keys.daemon_info) if info]
        return sorted(found, key=lambda daemon: daemon.started_at)

    async def known_jobs(self, queue: str) -> set[str] | None:
        """Names of the jobs that the live daemons of a queue know; None where none is, or one did not say."""
        known: set[str] | None = None
        for info, catalog in await self._of_daemons(keys.daemon_info, keys.daemon_jobs):
            if info is None or queue not in DaemonInfo.from_json(info).queues:
                continue
            if catalog is None:
                return None  # version 0.1.0 does not say
            known = (known or set()) | set(orjson.loads(catalog).get(queue, ()))
        return known

    async def _of_daemons(self, *kinds: Callable[[str], str]) -> list[tuple[bytes | None, ...]]:
        """For each daemon that is listed, its strings of these kinds."""
        instance_ids = [
            text(name) for name in await self.store.command("ZRANGE", keys.DAEMONS, 0, DAEMONS_SHOWN - 1)
        ]
        if not instance_ids:
            return []
        documents = await self.store.command("MGET", *(kind(one) for one in instance_ids for kind in kinds))
        return [tuple(documents[at : at + len(kinds)]) for at in range(0, len(documents), len(kinds))]

    async def _raw_counts(self) -> dict[str, RawCounts]:
        names = list(self.settings)
        raw = await asyncio.gather(*(self.scripts[name].counts() for name in names))
        return dict(zip(names, raw, strict=True))

    async def _metrics(self, name: str) -> QueueMetrics:
        scripts = self.scripts[name]
        raw, sample = await asyncio.gather(scripts.counts(), self._sample(scripts))
        return metrics_of(raw, self.settings[name], sample)

    async def _sample(self, scripts: QueueScripts) -> list[dict[str, Any]]:
        """What the last completed jobs say of their times."""
        index = ("ZREVRANGE", scripts.keys.completed, 0, PERCENTILE_SAMPLE - 1)
        found: list[dict[str, Any]] = []
        size = 0
        try:
            ids = await self.store.command(*index)
            while ids and size < SAMPLE_BYTES:
                documents = await self.store.command("MGET", *ids[:SAMPLE_BATCH])
                ids = ids[SAMPLE_BATCH:]
                size += (of_batch := sum(map(len, filter(None, documents))))
                if of_batch <= INLINE_BYTES:
                    found += _times(documents)
                else:
                    async with self._decoding:  # one thread at a time, so that the loop gets its turns
                        found += await asyncio.to_thread(_times, documents)
            return found
        except StoreUnavailable:
            raise
        except StoreError:
            return []  # its worker says that the queue's index is of the wrong type


def _times(documents: Iterable[bytes | None]) -> list[dict[str, Any]]:
    """The times of those that can be read; their payloads are let go."""
    found = []
    for document in filter(None, documents):
        with contextlib.suppress(Unreadable):
            data = decode(document)
            found.append({name: data[name] for name in TIMES if name in data})
    return found
