"""A real daemon killed in the middle of sends: nobody is messaged twice, and webhooks settle what is unknown."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from crmd.client.over_store import Client
from crmd.engine.admin.views import NewJob, State
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.meta import SECRET, event, raw, signed, status
from tests.support.services import NUMBER_ID, TOKEN, VERSION, WhatsAppServer
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

PASSWORD = "correct horse battery"
SLOTS = 10


@contextmanager
def serving(server: WhatsAppServer) -> Iterator[WhatsAppServer]:
    """The stand-in on a thread of its own, as the test waits for processes."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def run() -> None:
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(5)
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def config(server: WhatsAppServer) -> str:
    return f"""
[auth]
password = "{PASSWORD}"
[whatsapp]
base_url = "{server.url}"
api_version = "{VERSION}"
phone_number_id = "{NUMBER_ID}"
token = "{TOKEN}"
app_secret = "{SECRET}"
[queues.message]
rate_limit = "1000/s"
concurrency = {SLOTS}
"""


def add(daemon: DaemonProcess, keys: list[str]) -> None:
    jobs = [
        NewJob("send_message", {"to": f"+4915{number:08d}", "text": "hi", "once": f"campaign:1:{key}"}, key=key)
        for number, key in enumerate(keys)
    ]
    with daemon.client() as client:
        client.enqueue_many("message", jobs)


def messages(daemon: DaemonProcess) -> dict[str, str]:
    """How each message stands, by its job."""
    login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    answer = daemon.get("/api/v1/messages?limit=200", headers={"Authorization": f"Basic {login}"})
    assert answer.status == 200, answer.text
    return {one["job"]["key"]: one["status"] for one in answer.json["messages"]}


def tell(daemon: DaemonProcess, updates: list[dict[str, Any]]) -> None:
    body = raw(event(statuses=updates))
    url = f"http://127.0.0.1:{daemon.port}/webhooks/whatsapp"
    request = urllib.request.Request(url, data=body, headers=signed(body), method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def states(client: Client, keys: list[str]) -> Counter[str]:
    return Counter(client.job("message", key).state for key in keys)


def test_messages_of_a_killed_daemon_are_unknown_and_settled_by_their_statuses(daemons: Daemons) -> None:
    keys = [f"order-{number}" for number in range(4 * SLOTS)]
    with serving(WhatsAppServer()) as server:
        for _ in range(SLOTS):
            server.then_hang()
        daemon = daemons.start(config=config(server))
        add(daemon, keys)
        wait_until_sync(lambda: len(server.messages) == SLOTS)
        hung = [message["biz_opaque_callback_data"] for message in server.messages]
        daemon.kill()
        daemon.start()
        stands = {"unknown": SLOTS, "accepted": 3 * SLOTS}
        wait_until_sync(lambda: Counter(messages(daemon).values()) == stands, 20)
        assert {key for key, one in messages(daemon).items() if one == "unknown"} == set(hung)
        sent = Counter(message["biz_opaque_callback_data"] for message in server.messages)
        assert sent == dict.fromkeys(keys, 1), "each was handed over once"
        with daemon.client() as client:
            assert states(client, hung) == {State.UNKNOWN: SLOTS}

            # Statuses come late, twice, and out of order.
            for name in ("delivered", "sent", "delivered"):
                tell(daemon, [status(f"wamid.{key}", name, biz_opaque_callback_data=key) for key in hung])
            stands = {"delivered": SLOTS, "accepted": 3 * SLOTS}
            wait_until_sync(lambda: Counter(messages(daemon).values()) == stands)
            wait_until_sync(lambda: states(client, hung) == {State.COMPLETED: SLOTS})
            assert json.dumps(client.job("message", hung[0]).result).count(f"wamid.{hung[0]}") == 1
        daemon.stop()


def test_a_campaign_of_messages_with_three_kills(daemons: Daemons) -> None:
    keys = [f"order-{number}" for number in range(150)]
    with serving(WhatsAppServer()) as server:
        daemon = daemons.start(config=config(server).replace("1000/s", "50/s"))
        add(daemon, keys)
        for part in (20, 60, 100):
            wait_until_sync(lambda: len(server.messages) >= part, 20)  # noqa: B023
            daemon.kill()
            daemon.start()
        wait_until_sync(lambda: len(messages(daemon)) == len(keys), 30)
        wait_until_sync(lambda: set(messages(daemon).values()) <= {"accepted", "unknown"}, 20)
        found = Counter(messages(daemon).values())
        sent = Counter(message["biz_opaque_callback_data"] for message in server.messages)
        assert max(sent.values()) == 1, "nobody was messaged twice"
        assert found["accepted"] + found["unknown"] == len(keys)
        assert found["unknown"] <= 3 * SLOTS
        doubtful = [key for key, one in messages(daemon).items() if one == "unknown" and key in sent]
        if doubtful:
            tell(daemon, [status(f"wamid.{key}", biz_opaque_callback_data=key) for key in doubtful])
        left = set(keys) - set(sent)
        wait_until_sync(lambda: {key for key, one in messages(daemon).items() if one == "unknown"} == left, 10)
        daemon.stop()
