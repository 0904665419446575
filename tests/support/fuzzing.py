"""Sends mutated requests to a daemon and watches how it bears them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.support.daemon import DaemonProcess, resident_bytes
from tests.support.mutations import APP_SECRET, TOKEN, Request, mutate, surely_malformed, valid_requests
from tests.support.rawhttp import RawConnection, ask

CONFIG = f"""
[auth.tokens.fuzz]
sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
scopes = ["read", "enqueue", "operate"]
[whatsapp]
app_secret = "{APP_SECRET}"
verify_token = "tell"
"""
AT_ONCE = 16
ANSWER_SECONDS = 0.5
"""What gets no answer within this has not sent its whole body."""
PHONE = "+491701234567"
JOBS = {
    "message": ("send_message", {"to": PHONE, "text": "hi"}),
    "campaign": (
        "run_campaign",
        {
            "name": "spring",
            "audience": {"recipients": [{"phone": PHONE, "variables": {"name": "Ada"}}]},
            "content": {"template": {"name": "offer", "language": "en_US"}},
            "default_region": "DE",
        },
    ),
    "flow": ("run_flow", {"flow": "welcome", "contact": PHONE, "data": {"a": 1}}),
    "email": ("send_email", {"to": ["ada@example.com"], "subject": "hi", "text": "hi"}),
    "webhook": ("deliver_webhook", {"url": "https://127.0.0.1/x", "event": "a.b", "data": {"a": 1}}),
    "ai": ("chat_reply", {"messages": [{"role": "user", "content": "hi"}]}),
    "import": ("import_contacts", {"file": "0" * 32, "default_region": "DE", "tags": ["a"]}),
    "export": ("export_contacts", {"format": "csv"}),
    "analytics": ("snapshot", {"period": "day"}),
    "notification": ("notify", {"message": "a"}),
}


@dataclass(slots=True)
class Outcome:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    """0 where the connection was closed, or nothing came."""
    broken: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Answers of 5xx: status, detail and the request's start."""
    silence: float = 0.0
    """The longest that /livez took to answer, in seconds."""
    grown_bytes: int = 0
    """How much memory the daemon has more at the end than after a tenth of the requests."""


def start_options() -> dict[str, object]:
    """How to start a daemon for it: it takes jobs of every queue and runs none of them."""
    return {"config": CONFIG, "arguments": ("--queues", "work")}


async def fuzz(daemon: DaemonProcess, count: int, seed: int) -> Outcome:
    """Sends what is surely malformed, and so many mutated requests, three of five with a login."""
    rng = random.Random(seed)
    address = ("127.0.0.1", daemon.port)
    described = await ask(address, Request("GET", "/api/v1/openapi.json").to_bytes(login=True))
    valid = valid_requests(described.json, JOBS)
    first = [one.to_bytes(login=True) for one in surely_malformed(valid)]
    mutated = [mutate(rng.choice(valid), rng).to_bytes(login=rng.random() < 0.6) for _ in range(count)]
    requests = iter(first + mutated)
    outcome = Outcome()
    watch = asyncio.create_task(_watch(address, outcome))
    early = 0

    async def send() -> None:
        nonlocal early
        for request in requests:
            await _send(address, request, outcome)
            if outcome.statuses.total() == len(first) + count // 10:
                early = resident_bytes(daemon.pid)

    await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    outcome.grown_bytes = resident_bytes(daemon.pid) - early
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert watch.cancelled(), watch.exception()
    return outcome


async def _send(address: tuple[str, int], request: bytes, outcome: Outcome) -> None:
    status = 0
    async with await RawConnection.open(address, request) as connection:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await connection.answer_if_any(head=request.startswith(b"HEAD "))
        except TimeoutError:
            answer = None
        if answer is not None:
            status = answer.status
            if status >= 500:
                outcome.broken.append((status, answer.body.decode("utf-8", "replace")[:300], request[:600]))
    outcome.statuses[status] += 1


async def _watch(address: tuple[str, int], outcome: Outcome) -> None:
    while True:
        began = time.monotonic()
        answer = await ask(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.status == 200
        outcome.silence = max(outcome.silence, time.monotonic() - began)
        await asyncio.sleep(0.01)
