"""Meta's webhook: verifies events, stores them as jobs and answers at once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from crmd.config.tables import WhatsAppTable
from crmd.crm.api import ApiParts
from crmd.crm.whatsapp.send_rate import SendRate
from crmd.engine import codec
from crmd.engine.admin.control import Control
from crmd.engine.admin.views import NewJob
from crmd.engine.store.bounded import READ_SECONDS, bounded
from crmd.errors import StoreError
from crmd.http.bodies import read_body
from crmd.http.peers import FailedAttempts, Peers, client_group
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route
from crmd.telemetry.metrics import Metrics

PATH = "/webhooks/whatsapp"
MAX_BYTES = 3 * 1024 * 1024
"""Meta's own limit."""
LARGE_BYTES = 256 * 1024
"""Larger events are split in a thread: that takes tens of milliseconds."""
QUEUE, JOB = "webhook", "whatsapp_event"
UNIQUE_SECONDS = 86_400.0
"""A repeated event adds no second job within this; later ones are recognised by their content."""
MAX_CHALLENGE = 512
_SIGNATURE = "sha256="

_log = logging.getLogger(__name__)


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/webhooks/whatsapp`."""
    return WhatsAppHook(parts.whatsapp, parts.control, parts.metrics, parts.peers).routes()


class WhatsAppHook:
    """Answers under `/webhooks/whatsapp`; events must be signed with the app's secret."""

    def __init__(
        self, table: Callable[[], WhatsAppTable], control: Control, metrics: Metrics, peers: Peers
    ) -> None:
        """`table` returns the current secrets and rate, which a reload may change."""
        self._table = table
        self._control = control
        self._metrics = metrics
        self._peers = peers
        self._attempts = FailedAttempts()

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route("GET", PATH, self.verify, Access.OPEN),
            Route("POST", PATH, self.take, Access.OPEN, signed=True),
        ]

    async def verify(self, request: web.Request) -> web.Response:
        """Answers Meta's challenge when the address is registered."""
        token = _configured(self._table().verify_token, "verify_token")
        query = request.query
        given, challenge = query.get("hub.verify_token", ""), query.get("hub.challenge", "")
        # The token is always compared, so that timing reveals nothing.
        known = hmac.compare_digest(_bytes(given), token)
        if not known or query.get("hub.mode") != "subscribe" or not 0 < len(challenge) <= MAX_CHALLENGE:
            self._refuse(
                request, 403, "hub.verify_token is not whatsapp.verify_token, or it is not a subscription"
            )
        return web.Response(text=challenge, content_type="text/plain")

    async def take(self, request: web.Request) -> web.Response:
        """Answers 200 once the event is stored; Meta repeats it after any other answer."""
        secret = _configured(self._table().app_secret, "app_secret")
        raw = await read_body(request, MAX_BYTES, f"an event has at most {MAX_BYTES:,} bytes")
        expected = hmac.new(secret, raw, hashlib.sha256).hexdigest()
        given = request.headers.get("X-Hub-Signature-256", "")
        if not hmac.compare_digest(_bytes(given), f"{_SIGNATURE}{expected}".encode()):
            self._refuse(request, 401, "X-Hub-Signature-256 does not fit the body and whatsapp.app_secret")
        jobs = _jobs(raw) if len(raw) <= LARGE_BYTES else await asyncio.to_thread(_jobs, raw)
        await bounded(asyncio.gather(self._control.enqueue(QUEUE, jobs), self._count(jobs)), READ_SECONDS)
        return web.Response(text="EVENT_RECEIVED")

    async def _count(self, jobs: Sequence[NewJob]) -> None:
        """Counts inbound messages against the number's rate; if that fails, a refusal by WhatsApp corrects it."""
        table = self._table()
        count = received([job.payload for job in jobs], table.phone_number_id, time.time())
        if count:
            with suppress(StoreError):
                rate = SendRate(self._control.store, table.phone_number_id, table.rate.per_second)
                await rate.received(count)

    def _refuse(self, request: web.Request, status: int, why: str) -> None:
        """Refuses a request; 429 if its client is refused too often. Valid signatures always pass."""
        client = client_group(self._peers.client(request))
        wait = self._attempts.blocked_seconds(client)
        self._metrics.auth_refused("throttled" if wait else "signature")
        if wait:
            detail = f"too many refused requests from this address; try again in {wait} s"
            raise HttpProblem(429, detail, headers={"Retry-After": str(wait)})
        if self._attempts.fail(client):
            _log.warning("whatsapp.refused", extra={"fields": {"address": client, "reason": why}})
        raise HttpProblem(status, why)


def _configured(secret: SecretStr, name: str) -> bytes:
    value = secret.get_secret_value()
    if not value:
        detail = f"whatsapp.{name} is not set, so this daemon takes no events of WhatsApp"
        raise HttpProblem(503, detail, headers={"Retry-After": "60"})
    return value.encode()


def _jobs(raw: bytes) -> list[NewJob]:
    """The event's jobs; their keys derive from the body, so that a repeat adds none."""
    try:
        data = codec.loads(raw)
        if not isinstance(data, dict):
            raise HttpProblem(400, "the body is not a JSON object")
        found = parts({"object": str(data.get("object", "")), "entry": data.get("entry")}, len(raw))
    except (ValueError, RecursionError) as error:
        raise HttpProblem(400, f"the body is not JSON: {error}") from None
    digest = hashlib.sha256(raw).hexdigest()
    return [
        NewJob(JOB, part, key=f"wa:{digest}:{number}", unique_for=UNIQUE_SECONDS)
        for number, part in enumerate(found)
    ]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# Cuts a large event of Meta's webhook into smaller ones of the same shape: a job has 256 KiB at most


SMALL_BYTES = 80 * 1024
"""An event up to this is one job: JSON gets three times as long at most where all of it has to be escaped."""
PART_BYTES = 160 * 1024
"""Of a part's JSON, escaped: as long as it can get."""
RECENT_SECONDS = 10.0
"""Meta's timestamps are whole seconds, and a median webhook takes a quarter of one."""
_LISTS = ("messages", "statuses", "user_preferences")


def parts(event: dict[str, Any], raw_bytes: int) -> list[dict[str, Any]]:
    """The event, or several that say the same together. What one item says is never cut."""
    if raw_bytes <= SMALL_BYTES or not isinstance(event.get("entry"), list):
        return [event]
    found: list[dict[str, Any]] = []
    room = 0
    for entry, change in _changes(event["entry"]):
        size = _size(change)
        if size > room or not found:
            found.append({**event, "entry": []})
            room = PART_BYTES
        found[-1]["entry"].append(entry if change is None else {**entry, "changes": [change]})
        room -= size
    return found


def _changes(entries: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each change with its entry, cut where it is large. What has no changes comes as it is: the job tells."""
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            yield entry, None
            continue
        for change in changes:
            for piece in _pieces(change):
                yield entry, piece


def _pieces(change: Any) -> Iterator[Any]:
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict) or _size(change) <= PART_BYTES:
        yield change
        return
    rest = {name: content for name, content in value.items() if name not in (*_LISTS, "contacts")}
    for name in _LISTS:
        items = value.get(name)
        for some in _slices(items) if isinstance(items, list) else ():
            yield {**change, "value": {**rest, **_senders(value, name, some), name: some}}


def received(events: Sequence[dict[str, Any]], phone_number_id: str, now: float) -> int:
    """How many messages people wrote to the number within the last RECENT_SECONDS; `now` is epoch seconds.

    What Meta sends again later was counted for its rate when it was written.
    """
    count = 0
    for event in events:
        for entry in _objects(event.get("entry")):
            for change in _objects(entry.get("changes")):
                [value] = _objects([change.get("value")]) or [{}]
                [metadata] = _objects([value.get("metadata")]) or [{}]
                if metadata.get("phone_number_id") == phone_number_id:
                    count += sum(_is_recent(message, now) for message in _objects(value.get("messages")))
    return count


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _is_recent(message: dict[str, Any], now: float) -> bool:
    written_at = message.get("timestamp")
    return isinstance(written_at, str) and written_at.isdecimal() and now - int(written_at[:20]) <= RECENT_SECONDS


def _slices(items: Sequence[Any]) -> Iterator[list[Any]]:
    some: list[Any] = []
    room = PART_BYTES // 2  # the rest of the change comes on top
    for item in items:
        size = _size(item)
        if some and size > room:
            yield some
            some, room = [], PART_BYTES // 2
        some.append(item)
        room -= size
    if some:
        yield some


def _senders(value: dict[str, Any], name: str, some: Sequence[Any]) -> dict[str, Any]:
    """What the event says of the people who wrote these messages."""
    contacts = value.get("contacts")
    if name != "messages" or not isinstance(contacts, list):
        return {}
    senders = {item.get("from") for item in some if isinstance(item, dict) and isinstance(item.get("from"), str)}
    return {"contacts": [one for one in contacts if isinstance(one, dict) and _is_of(one, senders)]}


def _is_of(contact: dict[str, Any], senders: set[Any]) -> bool:
    number = contact.get("wa_id")
    return isinstance(number, str) and number in senders


def _size(data: Any) -> int:
    return len(json.dumps(data))
