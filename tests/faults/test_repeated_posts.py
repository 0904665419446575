"""Messages that are posted again and again as answers are lost, to two daemons that are killed on the way."""

from __future__ import annotations

import asyncio
import functools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from crmd.client.over_store import Client
from crmd.engine.admin.views import State
from crmd.errors import JobNotFound
from tests.faults.test_process_messages import PASSWORD, SLOTS, config, serving
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.http import basic
from tests.support.services import WhatsAppServer
from tests.support.store import StoreServer
from tests.support.wait import wait_until

pytestmark = pytest.mark.faults

ORDERS = 120
REPEATS = 5
PATIENCE_S = 30.0
PAUSES_S = (0.1, 0.3, 0.5, 1.0, 2.0, 4.0)
HUNG = 3
"""Sends before each kill that get no answer: their jobs are unknown."""
LAST_PAUSE_S = 15.0
"""The last repeat comes when the job is long over, and its outcome trimmed."""


@dataclass
class Order:
    """One message that is to go out once, and what was answered about it."""

    number: int
    keys: set[str] = field(default_factory=set)
    created: list[bool] = field(default_factory=list)
    refused: int = 0
    """Answers to requests with another text under the same key."""
    answers: int = 0

    @property
    def phone(self) -> str:
        return f"4915{self.number:08d}"

    def request(self, text: str = "hi") -> tuple[dict[str, Any], dict[str, str]]:
        """Body and headers: every third is known by its job's key, the others by the request's."""
        job: dict[str, Any] = {"job": "send_message", "payload": {"to": self.phone, "text": text}}
        if self.number % 3 == 0:
            return {**job, "key": f"order-{self.number}"}, {}
        body = {"jobs": [job]} if self.number % 3 == 1 else job
        return body, {"Idempotency-Key": f"order-{self.number}"}


async def post(session: aiohttp.ClientSession, daemon: DaemonProcess, order: Order, text: str = "hi") -> bool:
    """Sends the request once; whether an answer came."""
    body, headers = order.request(text)
    url = f"http://127.0.0.1:{daemon.port}/api/v1/queues/message/jobs"
    try:
        async with session.post(url, json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
    if response.status == 503:
        return False
    if text != "hi" and response.status == 422:
        order.refused += 1
        return True
    assert response.status in (200, 201), answer
    [one] = answer.get("jobs", [answer])
    order.keys.add(one["key"])
    order.created.append(one["created"])
    order.answers += 1
    return True


async def insist(
    session: aiohttp.ClientSession, daemons: list[DaemonProcess], order: Order, dice: random.Random
) -> None:
    """A program that believes no answer: it asks now this daemon, now that one."""
    await wait_until(lambda: post(session, dice.choice(daemons), order), PATIENCE_S)
    for _ in range(REPEATS):
        await asyncio.sleep(dice.choice(PAUSES_S))
        await post(session, dice.choice(daemons), order)
        if order.number % 3:
            await post(session, dice.choice(daemons), order, "another text")
    await asyncio.sleep(LAST_PAUSE_S)
    for daemon in daemons:
        await wait_until(functools.partial(post, session, daemon, order), PATIENCE_S)


async def kill_on_the_way(daemons: list[DaemonProcess], server: WhatsAppServer) -> None:
    """Three times, each time that another quarter went out: the one daemon, the other, the one."""
    for number in range(3):
        daemon = daemons[number % 2]
        wanted = ORDERS * (number + 1) // 4
        for _ in range(HUNG):
            server.then_hang()
        await wait_until(functools.partial(_has, server, wanted), PATIENCE_S)
        await asyncio.to_thread(daemon.kill)
        await asyncio.to_thread(daemon.start)


def test_nobody_is_messaged_twice(daemons: Daemons, own_store: StoreServer) -> None:
    dice = random.Random(17)
    orders = [Order(number) for number in range(ORDERS)]
    with serving(WhatsAppServer()) as server:
        text = config(server).replace('"1000/s"', '"30/s"') + 'keep_completed = 5\nkeep_min = "0s"\n'
        both = [daemons.start(config=f'[redis]\nurl = "{own_store.url}"\n{text}') for _ in range(2)]

        async def all_at_once() -> None:
            login, timeout = {"Authorization": basic("admin", PASSWORD)}, aiohttp.ClientTimeout(total=5)
            async with (
                aiohttp.ClientSession(headers=login, timeout=timeout) as session,
                asyncio.TaskGroup() as group,
            ):
                for order in orders:
                    group.create_task(insist(session, both, order, dice))
                group.create_task(kill_on_the_way(both, server))

        asyncio.run(all_at_once())
        with Client(own_store.url) as client:
            unknown = {key for order in orders for key in order.keys if _state(client, key) is State.UNKNOWN}
        sent = Counter(message["to"].removeprefix("+") for message in server.messages)

    assert [order.number for order in orders if len(order.keys) != 1] == [], "each order is one job"
    assert [order.number for order in orders if sent[order.phone] > 1] == [], "nobody was messaged twice"
    missing = [order for order in orders if not sent[order.phone]]
    assert all(order.keys <= unknown for order in missing), "and nobody was forgotten"
    assert HUNG <= len(unknown) <= 3 * (SLOTS + HUNG)
    assert sum(order.refused for order in orders) > ORDERS
    print(  # noqa: T201 - figures, for those who run the faults by hand with -s
        f"\n    {ORDERS} orders, {sum(order.answers for order in orders)} answers, {sum(sent.values())} messages, "
        f"{len(unknown)} unknown"
    )


def _has(server: WhatsAppServer, count: int) -> bool:
    return len(server.messages) >= count


def _state(client: Client, key: str) -> State | None:
    try:
        return client.job("message", key).state
    except JobNotFound:
        return None
