"""A campaign whose daemon is killed on the way; what then has to be true of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.database.database import Database
from crmd.crm.messages.tables import Message
from crmd.crm.schema import SCHEMA
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.sandbox import SandboxThread, sandbox
from tests.support.started import started
from tests.support.wait import wait_until_sync

CONCURRENCY = 10
CHUNK = 1_000
OUT = ("sent", "delivered", "read")


@dataclass(frozen=True)
class Kill:
    """When a daemon is killed, and what is under way then."""

    at: int
    """Messages that are at the stand-in."""
    taken: int = 0
    """Messages that wait for an answer, and arrived."""
    lost: int = 0
    """Messages that wait for an answer, and did not arrive."""


@dataclass(frozen=True)
class KillOutcome:
    """What was seen in the end."""

    taken: Counter[str]
    """Messages at the stand-in, by number."""
    statuses: dict[str, str]
    """What the database says, by number."""
    unknown_jobs: int
    """Messages whose outcome was unknown at one time."""
    seconds: float
    """From the campaign's job to its last message."""
    settled: int
    """Those of them about which webhooks told in the end."""


def run(daemons: Daemons, *, count: int, rate: str, kills: Sequence[Kill], timeout: float) -> KillOutcome:
    """A campaign to so many contacts, its daemon killed on the way."""
    daemon = daemons.make()
    with sandbox(daemon.port, status_seconds=(0.2, 0.5, 1.0), read_share=0.5) as whatsapp:
        queue = f'[queues.message]\nrate_limit = "{rate}"\nconcurrency = {CONCURRENCY}\nkeep_failed = {count}'
        daemon.configure(f"{whatsapp.whatsapp_table}\n{queue}")
        daemon.start()
        asyncio.run(_add_contacts(daemon, count))
        began = time.monotonic()
        with daemon.client() as client:
            payload = {
                "name": "spring",
                "audience": {"filter": {"tags": ["club"]}},
                "content": {"text": "Hello {{ name }}"},
            }
            client.enqueue("campaign", "run_campaign", payload, key="spring")
        for kill in kills:
            _kill(daemon, whatsapp, kill, timeout)
        _wait_until_settled(daemon, whatsapp, count, timeout)
        seconds = time.monotonic() - began
        rows = asyncio.run(_rows(daemon))
        unknown = {record["key"] for record in daemon.logged("job.unknown")}
        daemon.stop()
        statuses = {row.phone: row.status for row in rows}
        settled = sum(row.once in unknown and row.status in OUT for row in rows)
        return KillOutcome(whatsapp.recipients(), statuses, len(unknown), seconds, settled)


def check(told: KillOutcome, count: int, kills: Sequence[Kill]) -> None:
    """Each contact once or, where a kill came in between, unknown; and what WhatsApp told of is known."""
    twice = {phone: times for phone, times in told.taken.items() if times > 1}
    assert not twice
    still_unknown = {phone for phone, status in told.statuses.items() if status == "unknown"}
    assert len(told.statuses) == count
    assert set(told.statuses.values()) <= {*OUT, "unknown"}
    assert set(told.statuses) - still_unknown == set(told.taken), "what arrived is known, and nothing else is"
    assert sum(kill.taken + kill.lost for kill in kills) <= told.unknown_jobs <= len(kills) * CONCURRENCY
    assert len(still_unknown) >= sum(kill.lost for kill in kills)
    assert told.settled == told.unknown_jobs - len(still_unknown)


def _kill(daemon: DaemonProcess, whatsapp: SandboxThread, kill: Kill, timeout: float) -> None:
    wait_until_sync(lambda: whatsapp.taken >= kill.at, timeout, f"{kill.at} messages")
    for times, taken in ((kill.taken, True), (kill.lost, False)):
        if times:
            whatsapp.keep_silent(times, taken=taken)
    wait_until_sync(lambda: whatsapp.is_silent, timeout, "messages wait for an answer")
    daemon.kill()
    daemon.start()


def _wait_until_settled(daemon: DaemonProcess, whatsapp: SandboxThread, count: int, timeout: float) -> None:
    def look() -> bool:
        rows = asyncio.run(_rows(daemon))
        known = {row.phone for row in rows if row.status in OUT}
        unknown = sum(row.status == "unknown" for row in rows)
        return len(known) + unknown == count and known == set(whatsapp.recipients())

    wait_until_sync(look, timeout, "each message is told of, or unknown")


async def _add_contacts(daemon: DaemonProcess, count: int) -> None:
    async with started(Database("", SCHEMA, folder=daemon.state)) as database:
        for begin in range(0, count, CHUNK):
            rows = [
                ContactRow(f"+49151{n:08}", f"Name {n}", tags=["club"])
                for n in range(begin, min(begin + CHUNK, count))
            ]
            async with database.transaction() as s:
                await contacts.upsert(s, rows)


async def _rows(daemon: DaemonProcess) -> list[Message]:
    async with started(Database("", SCHEMA, folder=daemon.state)) as database, database.reading() as s:
        rows = list(await s.scalars(select(Message).where(Message.direction == "out")))
    assert len({row.phone for row in rows}) == len(rows), "a row for each number"
    return rows
