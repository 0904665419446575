"""A daemon that is killed while contacts go through a flow: nobody gets a message twice, and every run ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import func, select

from crmd.client.over_store import Client
from crmd.crm.database.database import Database
from crmd.crm.flows import repository as flows
from crmd.crm.flows.tables import FlowRun
from crmd.crm.messages.tables import Message
from crmd.crm.schema import SCHEMA
from crmd.engine.admin.views import NewJob
from tests.faults.figures import report
from tests.support.daemon import Daemons
from tests.support.services import NUMBER_ID, TOKEN, VERSION, WhatsAppServer
from tests.support.started import started
from tests.support.wait import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

CONTACTS = 100
KILLS = 4
SLOTS = 20
STEPS = [
    {"id": "one", "type": "send", "text": "one"},
    {"id": "tag", "type": "add_tag", "tag": "seen"},
    {"id": "rest", "type": "wait", "duration": "300ms"},
    {"id": "two", "type": "send", "text": "two"},
    {"id": "ask", "type": "wait_for_reply", "timeout": "500ms", "on_timeout": "three"},
    {"id": "three", "type": "send", "text": "three"},
    {"id": "end", "type": "end"},
]


def config(server: WhatsAppServer) -> str:
    return f"""
[whatsapp]
base_url = "{server.url}"
api_version = "{VERSION}"
phone_number_id = "{NUMBER_ID}"
token = "{TOKEN}"
[queues.message]
rate_limit = "none"
limits = []
concurrency = {SLOTS}
[queues.flow]
concurrency = {SLOTS}
[schedules.flow_sweep]
every = "1s"
"""


async def test_kills_in_the_middle_of_a_flow(daemons: Daemons) -> None:
    generator = random.Random(17)
    async with started(WhatsAppServer()) as server, AsyncExitStack() as stack:
        daemon = daemons.make(config=config(server))
        await asyncio.to_thread(daemon.start)
        database = await stack.enter_async_context(started(Database("", SCHEMA, folder=daemon.state)))
        async with database.transaction() as s:
            await flows.put(s, "ask", {"name": "ask", "steps": STEPS})
        starts = [
            NewJob("run_flow", {"flow": "ask", "contact": f"+49170{number:07}"}, key=f"start-{number}")
            for number in range(CONTACTS)
        ]
        with Client(daemon.store_url) as client:
            client.enqueue_many("flow", starts)
        for kill in range(KILLS):
            seen = len(server.messages) + generator.randrange(10, 50)
            await wait_until(lambda: len(server.messages) >= seen, 30.0, f"kill {kill}")  # noqa: B023
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)

        async def ended() -> bool:
            async with database.reading() as s:
                done = select(func.count()).select_from(FlowRun).where(FlowRun.state == "done")
                under_way = (
                    select(func.count()).select_from(Message).where(Message.status.in_(("sending", "retrying")))
                )
                made = await s.scalar(select(func.count()).select_from(Message))
                return (await s.scalar(done), await s.scalar(under_way), made) == (CONTACTS, 0, 3 * CONTACTS)

        await wait_until(ended, 90.0, "all runs are done and all messages known")
        sent = Counter((message["to"], message["text"]["body"]) for message in server.messages)
        async with database.reading() as s:
            statuses = Counter((await s.scalars(select(Message.status))).all())
            runs = await s.scalar(select(func.count()).select_from(FlowRun))
        report(f"{dict(statuses)}, {len(sent)} at the stand-in")
        assert runs == CONTACTS
        assert max(sent.values()) == 1
        assert statuses["accepted"] + statuses["unknown"] == 3 * CONTACTS
        assert statuses["unknown"] <= KILLS * SLOTS
        assert statuses["accepted"] <= len(sent) <= 3 * CONTACTS
