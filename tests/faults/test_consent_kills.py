"""People opt out and in, and answer flows, while two daemons are killed in turn: no word and no answer is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from crmd.client.over_store import Client
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.database.database import Database
from crmd.crm.flows import repository as flows
from crmd.crm.flows.tables import FlowRun
from crmd.crm.messages.tables import Message
from crmd.crm.schema import SCHEMA
from crmd.engine.admin.assembly import EngineAdmin
from crmd.engine.admin.views import NewJob, State
from crmd.engine.settings import QueueSettings, SettingsRegistry
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.meta import event, raw, signed, text_message
from tests.support.sandbox import SandboxThread, sandbox
from tests.support.started import started
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PEOPLE = 60
BEGAN = 1_790_000_000
STEPS = [
    {"id": "hello", "type": "send", "text": "Blue or red?"},
    {"id": "ask", "type": "wait_for_reply", "timeout": "1h", "on_timeout": "end"},
    {"id": "thanks", "type": "send", "text": "Thanks"},
    {"id": "end", "type": "end"},
]


class Person:
    """Somebody who is written to by one number and writes by another.

    Of every other one a rule of the country says so, of the others only a send can teach it. Two in three opt out
    and in, long ago; the third answers what the flow asks.
    """

    def __init__(self, number: int, generator: random.Random) -> None:
        national = number % 2 == 0
        self.phone = f"+55119{80000000 + number}" if national else f"+4915170{number:05}"
        self.wa_phone = f"+5511{80000000 + number}" if national else f"+4915171{number:05}"
        self.answers = number % 3 == 0
        self.words = [
            (generator.choice(("STOP", "start")), BEGAN + generator.randrange(3), f"wamid.{number}.{word}")
            for word in generator.sample(range(10), 0 if self.answers else 4)
        ]

    @property
    def wants(self) -> bool:
        """Whether the person wants messages, by the later word."""
        return self.answers or max(self.words, key=lambda word: word[1:])[0] == "start"

    @property
    def events(self) -> list[bytes]:
        """An event for each thing that the person says."""
        sender = self.wa_phone[1:]
        if self.answers:
            return [raw(event(messages=[text_message(f"wamid.answer.{sender}", "blue", sender)]))]
        return [
            raw(event(messages=[text_message(wamid, text, sender, timestamp=str(at))]))
            for text, at, wamid in self.words
        ]


class Meta:
    """Delivers events to either daemon until one takes them, as Meta does."""

    def __init__(self, daemons: Sequence[DaemonProcess], secret: str) -> None:
        self._daemons = daemons
        self._secret = secret
        self.taken = 0
        self._lock = threading.Lock()

    def deliver(self, events: list[bytes]) -> threading.Thread:
        """Delivers them in order, in the background."""
        thread = threading.Thread(target=self._deliver, args=(events,), daemon=True)
        thread.start()
        return thread

    def _deliver(self, events: list[bytes]) -> None:
        generator = random.Random(len(events))
        for body in events:
            while not self._post(generator.choice(self._daemons).port, body):
                pass
            with self._lock:
                self.taken += 1

    def _post(self, port: int, body: bytes) -> bool:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/webhooks/whatsapp", body, signed(body, self._secret)
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def test_words_and_numbers_over_two_daemons_and_three_kills(
    daemons: Daemons, own_store: StoreServer, empty_url: str
) -> None:
    generator = random.Random(23)
    crowd = [Person(number, generator) for number in range(PEOPLE)]
    first, second = (daemons.make(daemon='drain_timeout = "0s"') for _ in range(2))
    with sandbox(first.port, read_share=0.0, status_seconds=(0.1, 0.2, 0.3)) as whatsapp:
        for person in crowd:
            whatsapp.know_as(person.phone[1:], person.wa_phone[1:])
        for daemon in (first, second):
            daemon.configure(config(whatsapp, own_store, empty_url))
            daemon.start()
        asyncio.run(prepare(empty_url, crowd))
        with Client(own_store.url) as client:
            asking = [
                NewJob("run_flow", {"flow": "ask", "contact": one.phone}, key=f"ask{one.phone}") for one in crowd
            ]
            client.enqueue_many("flow", asking)
            wait_until_sync(lambda: asyncio.run(waiting(empty_url)) == len(crowd), 60.0, "all are asked")
            wait_until_sync(lambda: asyncio.run(settled(empty_url)) == len(crowd), 60.0, "all numbers are known")
            said = deliver_with_kills(first, second, whatsapp, crowd, generator)
            wait_until_sync(lambda: asyncio.run(inbound(empty_url)) == said, 90.0, "all events are taken in")
            answers = sum(person.answers for person in crowd)
            wait_until_sync(
                lambda: asyncio.run(done_after_retries(own_store.url, empty_url)) == answers,
                90.0,
                "all answers are taken up",
            )
            asyncio.run(check_words(empty_url, crowd))
            campaign(client, crowd)
            wait_until_sync(lambda: asyncio.run(campaign_done(empty_url)), 60.0, "the campaign is done")
        check_sent(whatsapp, crowd, asyncio.run(outcomes(empty_url)))


def config(whatsapp: SandboxThread, store: StoreServer, url: str) -> str:
    return f"""
{whatsapp.whatsapp_table}
[redis]
url = "{store.url}"
[database]
url = "{url}"
[queues.message]
rate_limit = "none"
limits = []
[schedules.flow_sweep]
every = "1s"
"""


async def prepare(url: str, crowd: Sequence[Person]) -> None:
    async with started(Database(url, SCHEMA, folder=Path())) as database, database.transaction() as s:
        await flows.put(s, "ask", {"name": "ask", "steps": STEPS})
        await contacts.upsert(s, [ContactRow(person.phone) for person in crowd])


def deliver_with_kills(
    first: DaemonProcess,
    second: DaemonProcess,
    whatsapp: SandboxThread,
    crowd: Sequence[Person],
    generator: random.Random,
) -> int:
    """Delivers all that is said, in any order, to both daemons, which are killed meanwhile; returns the count."""
    events = [one for person in crowd for one in person.events]
    generator.shuffle(events)
    meta = Meta((first, second), whatsapp.app_secret)
    threads = [meta.deliver(events[place::4]) for place in range(4)]
    for kill, daemon in enumerate((first, second, first)):
        wait_until_sync(lambda: meta.taken >= len(events) * (kill + 1) // 5, 60.0, f"kill {kill}")  # noqa: B023
        daemon.kill()
        daemon.start()
    for thread in threads:
        thread.join(60.0)
    assert meta.taken == len(events)
    return len(events)


async def _ask(url: str, query: object) -> int:
    async with started(Database(url, SCHEMA, folder=Path())) as database, database.reading() as s:
        found: int = await s.scalar(query)  # type: ignore[call-overload]
        return found


async def waiting(url: str) -> int:
    return await _ask(url, select(func.count()).select_from(FlowRun).where(FlowRun.state == "waiting_for_reply"))


async def done(url: str) -> int:
    return await _ask(url, select(func.count()).select_from(FlowRun).where(FlowRun.state == "done"))


async def done_after_retries(store_url: str, url: str) -> int:
    """How many runs are done; a job that met all three kills is poison, and retried as an operator would."""
    admin = EngineAdmin.at(store_url, SettingsRegistry({"flow": QueueSettings("flow")}))
    async with started(admin):
        for key in await admin.control.matching("flow", State.FAILED, None):
            assert ((await admin.inspector.job("flow", key)).error or "").startswith("poison")
            await admin.control.retry("flow", key)
    return await done(url)


async def settled(url: str) -> int:
    known = Message.status.in_(("sent", "delivered", "read"))
    return await _ask(url, select(func.count()).select_from(Message).where(known))


async def inbound(url: str) -> int:
    return await _ask(url, select(func.count()).select_from(Message).where(Message.direction == "in"))


async def check_words(url: str, crowd: Sequence[Person]) -> None:
    """The later word of each person holds, and nobody became two contacts."""
    async with started(Database(url, SCHEMA, folder=Path())) as database, database.reading() as s:
        known = await people.behind(s, [person.wa_phone for person in crowd])
    for person in crowd:
        found = known[person.wa_phone]
        assert [one.phone for one in found.contacts] == [person.phone]
        assert found.opted_out != person.wants, person.words


def campaign(client: Client, crowd: Sequence[Person]) -> None:
    """To everybody, by both numbers."""
    numbers = [number for person in crowd for number in (person.phone, person.wa_phone)]
    to = {"recipients": [{"phone": number} for number in numbers]}
    payload = {"name": "spring", "audience": to, "content": {"text": "Spring"}}
    client.enqueue("campaign", "run_campaign", payload, key="spring")


async def campaign_done(url: str) -> bool:
    sent = Message.status.in_(("sent", "delivered", "read"))
    queued = select(func.count()).select_from(CampaignRecipient).where(CampaignRecipient.state == "queued")
    done = select(func.count()).select_from(Campaign).where(Campaign.status == "done")
    out = select(func.count()).select_from(Message).where(Message.campaign_id.is_not(None), sent)
    return await _ask(url, done) == 1 and await _ask(url, queued) == await _ask(url, out)


async def outcomes(url: str) -> Counter[str]:
    async with started(Database(url, SCHEMA, folder=Path())) as database, database.reading() as s:
        return Counter((await s.scalars(select(Message.phone).where(Message.campaign_id.is_not(None)))).all())


def check_sent(whatsapp: SandboxThread, crowd: Sequence[Person], campaign: Counter[str]) -> None:
    """Who wants messages got the campaign once, others not at all; each was asked, and thanked, once at most."""
    assert campaign == Counter(person.phone for person in crowd if person.wants)
    taken = whatsapp.recipients()
    assert set(taken) == {person.phone for person in crowd}
    for person in crowd:
        expected = {False: {1}, True: {2, 3} if person.answers else {2}}[person.wants]
        assert taken[person.phone] in expected, person.words
