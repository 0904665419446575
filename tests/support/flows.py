"""Flows on a real store with a real database, a real pool and the WhatsApp stand-in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.catalog import shipped_catalog
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.definition import check_flow
from crmd.crm.flows.inbound import inbound
from crmd.crm.flows.jobs import new_data
from crmd.crm.flows.tables import FlowRun
from crmd.crm.messages import queries as messages
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.tables import Message
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.engine.admin.control import Control
from crmd.engine.admin.views import JobView, NewJob, State
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import Backoff, QueueSettings
from crmd.errors import JobNotFound
from crmd.jobs import JobContext, NewPayload
from tests.support.context import RecordedRun, make_context
from tests.support.database import commit
from tests.support.engine_harness import EngineHarness
from tests.support.services import WhatsAppServer
from tests.support.wait import wait_until

PHONE = "+491701234567"
HELLO = {"id": "hello", "type": "send", "text": "Hello {{ name|default('you') }}"}
ASK = {"id": "ask", "type": "wait_for_reply", "timeout": "1h", "on_timeout": "late", "save_as": "answer"}
THANKS = {"id": "thanks", "type": "send", "text": "You said {{ answer }}", "next": "bye"}
LATE = {"id": "late", "type": "send", "text": "Too late"}
BYE = {"id": "bye", "type": "end"}
QUESTION = (ASK, THANKS, LATE, BYE)
QUIZ = (HELLO, *QUESTION)
REST = {"id": "rest", "type": "wait", "duration": "1h"}
SECOND = {"id": "second", "type": "send", "text": "second"}

DRAIN_SECONDS = 5.0
QUEUES = tuple(
    QueueSettings(name, attempts=2, backoff=Backoff(0.01, 0.02))
    for name in ("flow", "message", "webhook", "email", "ai")
)


class StoredRun(RecordedRun):
    """The engine's side of a context: what the handler adds goes into the store."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Adds jobs."""
        new = [NewJob(name, dict(payload), **options) for payload, options in jobs]
        return [added.key for added in await self._control.enqueue(queue, new)]


class CutRun(StoredRun):
    """Is cancelled when jobs are added: before the store has them, or after."""

    def __init__(self, control: Control, after: bool) -> None:
        super().__init__(control)
        self._after = after

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Adds them or not, and ends."""
        if self._after:
            await super().enqueue(queue, name, jobs)
        raise asyncio.CancelledError


class FlowBench:
    """What tests of flows do again and again."""

    def __init__(
        self, harness: EngineHarness, database: Database, whatsapp: WhatsAppClient, server: WhatsAppServer
    ) -> None:
        self.harness = harness
        self.database = database
        self.server = server
        self.resources = {
            Database: database,
            MessageRepository: MessageRepository(database, CampaignGate()),
            WhatsAppClient: whatsapp,
        }
        self._pools: list[WorkerPool] = []
        catalog = shipped_catalog()
        for queue in QUEUES:
            for name in catalog.names(queue.name):
                harness.handle_spec(queue.name, catalog.get(queue.name, name))

    async def start_pool(self, *only: str) -> WorkerPool:
        """Starts a pool that runs these queues, or all."""
        pool = await self.harness.start_pool(resources=self.resources, only=only or None)
        self._pools.append(pool)
        return pool

    async def close(self) -> None:
        """Lets what runs come to its end."""
        for pool in self._pools:
            await pool.stop(DRAIN_SECONDS)

    async def put(self, *steps: dict[str, Any], name: str = "welcome", **fields: Any) -> None:
        """Stores a flow, checked."""
        definition = {"name": name, "steps": list(steps), **fields}
        check_flow(definition, name)
        await commit(self.database, flows.put, name, definition, enabled=definition.get("enabled", True))

    async def add(self, payload: dict[str, Any], key: str | None = None) -> str:
        """Adds a job `run_flow`."""
        [added] = await self.harness.control.enqueue("flow", [NewJob("run_flow", payload, key=key)])
        return added.key

    async def start(
        self, phone: str = PHONE, *, flow: str = "welcome", key: str | None = None, **data: Any
    ) -> str:
        """Adds a job that starts a flow."""
        return await self.add({"flow": flow, "contact": phone, "data": data}, key)

    async def waiting_run(
        self, *steps: dict[str, Any], queues: Sequence[str] = (), phone: str = PHONE, **fields: Any
    ) -> FlowRun:
        """Stores a flow, starts a pool for these queues, or all, and a run; gives the run as it waits."""
        await self.put(*steps, **fields)
        await self.start_pool(*queues)
        await self.finished(await self.start(phone))
        run = (await self.runs())[-1]
        assert run.state.startswith("waiting")
        return run

    async def finished(self, key: str) -> JobView:
        """A job of queue `flow` once it is over."""
        return await self.harness.finished("flow", key)

    async def runs(self) -> list[FlowRun]:
        """All runs, the oldest first."""
        async with self.database.reading() as s:
            return list((await s.scalars(select(FlowRun).order_by(FlowRun.id))).all())

    async def run_in(self, state: str, *, index: int = -1) -> FlowRun:
        """One run, by default the newest, once it is in a state."""

        async def look() -> FlowRun | None:
            runs = await self.runs()
            return runs[index] if runs and runs[index].state == state else None

        found: FlowRun = await wait_until(look, 10.0, f"run {index} is {state}")
        return found

    async def contact(self, phone: str = PHONE) -> contacts.ContactView:
        """A contact as it is now."""
        async with self.database.reading() as s:
            found = await contacts.by_phone(s, phone)
            assert found is not None
            view = await contacts.view(s, found.id)
        assert view is not None
        return view

    async def reply(
        self, text: str | None, wamid: str = "wamid.IN1", phone: str = PHONE, run: StoredRun | None = None
    ) -> None:
        """A message comes in; the same again is one that was recorded before."""
        now = utc_now()
        async with self.database.transaction() as s:
            contact = await contacts.ensure(s, phone)
            await messages.record_inbound(s, contact, wamid=wamid, type="text", text=text, at=now, now=now)
            message = await s.scalar(select(Message).where(Message.wamid == wamid))
        assert message is not None
        await inbound(self.context(run), contact, message)

    def context(self, run: StoredRun | None = None) -> JobContext:
        """A context of a handler that is called by hand; what it adds goes into the store."""
        run = run or StoredRun(self.harness.control)
        return make_context(*self.resources.values(), queue="flow", name="run_flow", run=run)

    async def sent(self, count: int) -> list[str]:
        """The texts at the stand-in, once there are so many."""
        await wait_until(lambda: len(self.server.messages) >= count, 10.0, f"{count} messages were sent")
        return [message["text"]["body"] for message in self.server.messages]

    async def make_run(self, *, flow: str = "welcome", definition: dict[str, Any] | None = None) -> int:
        """A run that stands at its first step and has no job; returns its id."""
        async with self.database.transaction() as s:
            found = await flows.by_name(s, flow)
            assert found is not None
            contact = await contacts.ensure(s, PHONE)
            first = found.definition["steps"][0]["id"]
            at, _ = await flows.start(s, found, contact.id, once=uuid.uuid4().hex, step=first, data=new_data())
            if definition is not None:
                await s.execute(update(FlowRun).where(FlowRun.id == at.run_id).values(definition=definition))
        return at.run_id

    async def all_in(self, state: str) -> bool:
        """Whether all runs are in a state."""
        return {run.state for run in await self.runs()} == {state}

    async def ended(self, run_id: int) -> bool:
        """Whether a run is over."""
        return next(run.state for run in await self.runs() if run.id == run_id) in flows.FINISHED

    async def job_is(self, key: str, state: State) -> bool:
        """Whether a job of queue `flow` is in a state."""
        return (await self.harness.inspector.job("flow", key)).state is state

    async def made_attempts(self, key: str, count: int) -> bool:
        """Whether a job of queue `flow` is at that attempt, or beyond it."""
        return (await self.harness.inspector.job("flow", key)).attempt >= count

    async def is_at(self, count: int) -> bool:
        """Whether the newest run has made so many steps."""
        return (await self.runs())[-1].count == count

    async def payload(self, queue: str, key: str) -> Any:
        """What a job was added with."""
        return (await self.harness.inspector.job(queue, key)).payload

    async def has_job(self, queue: str, key: str) -> bool:
        """Whether there is such a job."""
        try:
            await self.harness.inspector.job(queue, key)
        except JobNotFound:
            return False
        return True

    async def finished_job(self, queue: str, key: str) -> bool:
        """Whether a job is over."""
        return (await self.harness.inspector.job(queue, key)).state.finished

    async def make_overdue(self, run_id: int) -> None:
        """Lets a run's time have come a while ago."""
        async with self.database.transaction() as s:
            past = utc_now() - timedelta(minutes=5)
            await s.execute(update(FlowRun).where(FlowRun.id == run_id).values(wake_at=past))

    async def opt_out(self, phone: str = PHONE) -> None:
        """The contact wants no messages."""
        await commit(self.database, contacts.opt_out, phone, utc_now())

    async def change(self, attributes: dict[str, Any]) -> None:
        """Sets attributes of the contact, which is made where there is none."""
        await commit(self.database, contacts.upsert, [contacts.ContactRow(phone=PHONE, attributes=attributes)])
