"""The indexes of a store must agree after every test: what is left has a TTL, or a reason to be there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

OURS = ("saq:", "crmd:")
"""What other keys begin with is an application's own."""

PERMANENT = (
    r"saq:[a-z0-9_-]+:(queued|active|incomplete)",
    r"crmd:(daemons|unique_for)",
    r"crmd:q:[a-z0-9_-]+:(leases|priority|priorities|suspects|crashes|begun|starts|buckets|override|paused|parked)",
    r"crmd:q:[a-z0-9_-]+:(completed|failed|cancelled|unknown|counters|minutes|quarantine|unique_for|requests)",
    r"crmd:cache:.*",
)
"""Keys of a fixed number a queue, each bounded in itself, and what applications cache for good."""

OF_ONE_JOB = re.compile(
    r"saq:job:(?P<queue>[a-z0-9_-]+):(?P<key>.*)|crmd:q:(?P<log_queue>[a-z0-9_-]+):log:(?P<log>.*)", re.S
)
"""Keys that go with their job."""
PARKED = re.compile(r"crmd:q:(?P<queue>[a-z0-9_-]+):parked:(?P<name>.*)", re.S)
_PERMANENT = re.compile("|".join(PERMANENT), re.S)


class QueueIndexes:
    """What the indexes of one queue hold."""

    def __init__(self, client: Redis, queue: str) -> None:
        own, saq = f"crmd:q:{queue}:", f"saq:{queue}:"
        self.name = queue
        self.incomplete = _members(client, saq + "incomplete")
        self.leases = _members(client, own + "leases")
        self.indexed = set().union(
            *(_members(client, own + name) for name in ("completed", "failed", "cancelled"))
        )
        self.failed = _members(client, own + "failed")
        self.parked = _members(client, own + "parked")
        self.live = self.incomplete | self.leases
        self.of_live = {name: _members(client, own + name) for name in ("priorities", "crashes", "begun")}
        self.unique_for = _members(client, own + "unique_for")
        self.unknown = _members(client, own + "unknown")
        self.active = _members(client, saq + "active")

    def problems(self) -> Iterator[str]:
        """Entries that have lost what they belong to."""
        for name, ids in self.of_live.items():
            for job_id in ids - self.live:
                yield f"{self.name}: {name} holds {job_id}, which neither waits nor runs"
        for job_id in self.unique_for - self.live - self.indexed:
            yield f"{self.name}: unique_for holds {job_id}, which neither lives nor is kept"
        for job_id in self.indexed & self.live:
            yield f"{self.name}: {job_id} is live and kept as finished"
        for job_id in self.unknown - self.failed:
            yield f"{self.name}: {job_id} is unknown and not failed"
        for job_id in self.active - self.leases:
            yield f"{self.name}: {job_id} is shown as active and has no lease"


def leaks(client: Redis) -> list[str]:
    """What is wrong in a store: keys without a TTL or a reason, entries without their job."""
    every = (raw.decode("utf-8", "backslashreplace") for raw in client.scan_iter(count=1000))
    names = sorted(name for name in every if name.startswith(OURS))
    queues = {found[1] for name in names if (found := re.match(r"(?:crmd:q|saq):([a-z0-9_-]+):", name))} - {"job"}
    queues |= {found["queue"] for name in names if (found := OF_ONE_JOB.fullmatch(name)) and found["queue"]}
    indexes = {queue: QueueIndexes(client, queue) for queue in queues}
    found_problems = [problem for index in indexes.values() for problem in index.problems()]
    for name in names:
        if not _PERMANENT.fullmatch(name) and client.ttl(name) == -1 and not _has_a_reason(name, indexes):
            found_problems.append(f"{name} has no TTL and belongs to nothing")
    return found_problems


def _has_a_reason(name: str, indexes: dict[str, QueueIndexes]) -> bool:
    if job := OF_ONE_JOB.fullmatch(name):
        index = indexes[job["queue"] or job["log_queue"]]
        job_id = f"saq:job:{index.name}:{job['key'] if job['queue'] else job['log']}"
        return job_id in index.live or job_id in index.indexed
    if parked := PARKED.fullmatch(name):
        return parked["name"] in indexes[parked["queue"]].parked
    return False


def _members(client: Redis, name: str) -> set[str]:
    kind: Any = client.type(name)
    read: dict[bytes, Any] = {
        b"zset": lambda: client.zrange(name, 0, -1),
        b"set": lambda: client.smembers(name),
        b"hash": lambda: client.hkeys(name),
        b"list": lambda: client.lrange(name, 0, -1),
        b"none": lambda: (),
    }
    return {raw.decode("utf-8", "backslashreplace") for raw in read[kind]()}


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves something behind in the shared store."""
    if "store_url" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("store_server")
    yield
    if "untidy" not in request.fixturenames:
        with server.client() as client:
            left = leaks(client)
        assert not left, "left in the store:\n" + "\n".join(left)


@pytest.fixture
def untidy() -> None:
    """For tests that leave foreign things in the store on purpose."""
