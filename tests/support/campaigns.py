"""Campaigns on a real store with a real database, a real pool and the WhatsApp stand-in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.campaigns.jobs import run_campaign
from crmd.crm.campaigns.progress import Backpressure
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files.store import FileStore
from crmd.crm.messages import queries as messages
from crmd.crm.messages.jobs import send_message
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.tabular.xlsx_source import XlsxReaders
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.engine.admin.views import JobView, NewJob, State
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import Backoff, QueueSettings
from crmd.jobs import JobContext
from tests.support.context import make_context
from tests.support.database import commit, fetch
from tests.support.engine_harness import EngineHarness
from tests.support.flows import StoredRun
from tests.support.services import WhatsAppServer
from tests.support.wait import wait_until

KEY = "the-campaign"
QUEUES = (
    QueueSettings(
        "campaign", attempts=2, timeout_seconds=3600.0, backoff=Backoff(0.01, 0.02), unique_for_seconds=86_400.0
    ),
    QueueSettings("message", attempts=2, backoff=Backoff(0.01, 0.02), unique_for_seconds=86_400.0),
)
TEXT = {"text": "Hello {{ name }}"}


def phone(number: int) -> str:
    """A number of the test."""
    return f"+4915110{number:06}"


def inline(count: int, **variables: Any) -> dict[str, Any]:
    """An audience of so many."""
    return {"recipients": [{"phone": phone(n), "variables": {"name": f"N{n}", **variables}} for n in range(count)]}


def definition(audience: dict[str, Any], content: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A payload of `run_campaign`."""
    return {"name": "spring", "audience": audience, "content": content or TEXT, **fields}


class CampaignBench:
    """What tests of campaigns do again and again."""

    def __init__(
        self,
        harness: EngineHarness,
        database: Database,
        whatsapp: WhatsAppClient,
        server: WhatsAppServer,
        folder: Path,
    ) -> None:
        self.harness = harness
        self.database = database
        self.server = server
        self.xlsx = XlsxReaders()
        self.files = FileStore(database, folder / "files", 10**6, 3600.0)
        self.resources: dict[type, Any] = {
            Database: database,
            FileStore: self.files,
            MessageRepository: MessageRepository(database, CampaignGate()),
            WhatsAppClient: whatsapp,
            XlsxReaders: self.xlsx,
        }
        harness.handle_jobs(run_campaign, send_message)

    async def start_pool(self, *only: str) -> WorkerPool:
        """Starts a pool that runs these queues, or both."""
        return await self.harness.start_pool(resources=self.resources, only=only or None)

    async def add(self, payload: dict[str, Any], key: str = KEY) -> None:
        """Adds a job `run_campaign`, also where an earlier one holds its key."""
        await self.harness.control.enqueue("campaign", [NewJob("run_campaign", payload, key, again=True)])

    async def run(self, payload: dict[str, Any], key: str = KEY) -> JobView:
        """Adds the job and waits until it is over."""
        await self.add(payload, key)
        return await self.harness.finished("campaign", key, 20.0)

    async def result(self, payload: dict[str, Any], key: str = KEY) -> dict[str, Any]:
        """The result of a job that ends well."""
        view = await self.run(payload, key)
        assert view.state is State.COMPLETED, view.error
        result: dict[str, Any] = view.result
        return result

    async def work(self, payload: dict[str, Any], *only: str) -> dict[str, Any]:
        """Starts a pool that runs these queues, or both, and a campaign; gives the campaign's result."""
        await self.start_pool(*only)
        return await self.result(payload)

    async def work_until(self, words: str, payload: dict[str, Any], *only: str) -> JobView:
        """As `work`, but gives the campaign's job once it is delayed for this reason."""
        await self.start_pool(*only)
        await self.add(payload)
        return await self.delayed(words)

    async def delayed(self, words: str, key: str = KEY) -> JobView:
        """The campaign's job once it is delayed for this reason."""

        async def look() -> JobView | None:
            view = await self.harness.inspector.job("campaign", key)
            return view if view.state is State.DELAYED and words in (view.error or "") else None

        found: JobView = await wait_until(look, 10.0, f"the campaign's job waits: {words}")
        return found

    def context(self, run: StoredRun | None = None, **options: Any) -> JobContext:
        """A context of a handler that is called by hand; what it adds goes into the store."""
        given = run or StoredRun(self.harness.control)
        resources = self.resources.values()
        return make_context(*resources, queue="campaign", name="run_campaign", key=KEY, run=given, **options)

    async def upload(self, text: str | bytes, name: str = "people.csv") -> str:
        """An uploaded file; returns its id."""
        await self.files.start()
        async with self.files.create(kind="upload", name=name, media_type="text/csv") as new:
            new.path.write_bytes(text.encode() if isinstance(text, str) else text)
        await self.files.stop()
        return new.id

    async def people(self, *rows: contacts.ContactRow) -> None:
        """Adds contacts."""
        await commit(self.database, contacts.upsert, rows)

    async def campaign(self, name: str = "spring") -> Campaign:
        """The campaign's row."""
        async with self.database.reading() as s:
            return (await s.scalars(select(Campaign).where(Campaign.name == name))).one()

    async def move(self, status: str) -> None:
        """Gives the campaign another status."""
        async with self.database.transaction() as s:
            campaign = (await s.scalars(select(Campaign).with_for_update())).one()
            await campaigns.move(s, campaign, CampaignStatus(status), "by the test")

    async def wake(self) -> None:
        """Lets the campaign's job run now."""
        await self.harness.control.promote("campaign", KEY)

    async def recipients(self) -> list[CampaignRecipient]:
        """All recipients."""
        async with self.database.reading() as s:
            return list(await s.scalars(select(CampaignRecipient).order_by(CampaignRecipient.id)))

    async def counts(self) -> dict[str, int]:
        """Recipients by state."""
        campaign = await self.campaign()
        return await fetch(self.database, campaign_recipients.counts, campaign.id)

    async def reasons(self) -> dict[str, int]:
        """Why recipients were skipped."""
        campaign = await self.campaign()
        return await fetch(self.database, campaign_recipients.skipped_reasons, campaign.id)

    async def statuses(self) -> dict[str, int]:
        """The campaign's messages by status."""
        campaign = await self.campaign()
        return await fetch(self.database, messages.campaign_counts, campaign.id)

    async def have(self, statuses: dict[str, int]) -> bool:
        """Whether the campaign's messages have these statuses."""
        return await self.statuses() == statuses

    async def sent(self, count: int) -> dict[str, str]:
        """The text that each number got, once there are so many; none got two."""
        await wait_until(lambda: len(self.server.messages) >= count, 15.0, f"{count} messages were sent")
        self.check_once()
        return {f"+{message['to']}": message.get("text", {}).get("body", "") for message in self.server.messages}

    def check_once(self) -> None:
        """Nobody was sent two messages."""
        twice = [to for to, times in Counter(one["to"] for one in self.server.messages).items() if times > 1]
        assert not twice

    async def waiting(self, queue: str = "message") -> int:
        """Jobs that wait, or are delayed."""
        counts = await self.harness.inspector.counts(queue)
        return counts.waiting + counts.delayed

    async def keys(self, state: State, queue: str = "message") -> Sequence[JobView]:
        """Jobs in a state."""
        return (await self.harness.inspector.jobs(queue, state, None, None, 200)).jobs

    async def age(self, **steps: timedelta) -> None:
        """Lets instants of the campaign's progress lie further back, by field."""
        async with self.database.transaction() as s:
            campaign = (await s.scalars(select(Campaign))).one()
            for name, by in steps.items():
                kept, at = getattr(campaign.progress, name), utc_now() - by
                value: Any = replace(kept, looked_at=at) if isinstance(kept, Backpressure) else at
                campaign.progress = replace(campaign.progress, **{name: value})
