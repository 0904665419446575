"""A stand-in for the WhatsApp Cloud API: takes messages, applies Meta's rules, answers as Meta documents it."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from crmd.sandbox import content
from crmd.sandbox.callback import Callback
from crmd.sandbox.faults import Fault, FaultKind, Faults, Service
from crmd.sandbox.journal import Entry, Journal, Kind, excerpt
from crmd.sandbox.limits import PairRule, throughput
from crmd.sandbox.meta_errors import error_body, error_of
from crmd.sandbox.settings import SandboxSettings
from crmd.sandbox.statuses import Statuses
from crmd.sandbox.users import Users

_VERSION = re.compile(r"v\d{1,3}\.\d{1,2}")


class CloudApi:
    """Answers below `/{version}/…`. `clock` is epoch seconds, for the rules and for what is told."""

    def __init__(
        self, settings: SandboxSettings, journal: Journal, faults: Faults, clock: Callable[[], float] = time.time
    ) -> None:
        self.callback = Callback(settings, journal.touch)
        self.statuses = Statuses(settings, self.callback, journal, clock)
        self.throughput = throughput(settings.messages_per_second, settings.throughput_bucket)
        self.users = Users(settings, self.callback, journal, self.throughput, clock)
        self._settings = settings
        self._journal = journal
        self._faults = faults
        self._clock = clock
        self._pairs = PairRule(settings.pair_seconds, settings.pair_burst)

    def routes(self) -> list[web.RouteDef]:
        """What this stand-in answers."""
        return [
            web.post(r"/{version:v[\d.]+}/{number}/messages", self.messages),
            web.get(r"/{version:v[\d.]+}/{media}", self.media),
            web.get("/media/{media}", self.media_file),
        ]

    async def start(self) -> None:
        """Begins to verify the callback."""
        await self.callback.start()

    async def stop(self) -> None:
        """Ends what is under way. Idempotent, also before start."""
        await self.statuses.stop()
        await self.users.stop()
        await self.callback.stop()

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """One message to a user, or the mark that one of theirs was read."""
        raw = await request.read()
        problem = self._access(request)
        if problem is not None:
            return problem
        if request.match_info["number"] != self._settings.phone_number_id:
            return _no_such_object(request, request.match_info["number"])
        try:
            message = json.loads(raw)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return _refuse(100, "The body is not a JSON object.")
        if "status" in message:
            fault = self._faults.take(Service.WHATSAPP, mark_read=True)
            return await self._faults.act(fault, request) or self._mark_read(message)
        try:
            content.check(message)
            fault = self._faults.of_request(request, Service.WHATSAPP, message["to"].removeprefix("+"))
        except content.Refusal as refusal:
            return self._refused(message, refusal.code, refusal.details)
        except ValidationError:
            return _refuse(100, "The sandbox does not know the fault that the request asks for.")
        return await self._send(request, message, fault)

    async def media(self, request: web.Request) -> web.Response:
        """Where an inbound file can be fetched."""
        problem = self._access(request)
        if problem is not None:
            return problem
        found = self.users.media(request.match_info["media"])
        if found is None:
            return _no_such_object(request, request.match_info["media"])
        return web.json_response(
            {
                "messaging_product": "whatsapp",
                "url": str(request.url.origin() / "media" / found.id),
                "mime_type": found.mime_type,
                "sha256": found.sha256,
                "file_size": str(len(found.content)),
                "id": found.id,
            }
        )

    async def media_file(self, request: web.Request) -> web.Response:
        """An inbound file."""
        problem = self._access(request)
        if problem is not None:
            return problem
        found = self.users.media(request.match_info["media"])
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found.content, content_type=found.mime_type)

    def find(self, wamid: str) -> Entry | None:
        """An accepted message that is still kept."""
        found = (entry for entry in self._journal.entries(Kind.MESSAGE) if entry.fields["wamid"] == wamid)
        return next(found, None)

    async def _send(
        self, request: web.Request, message: dict[str, Any], fault: Fault | None
    ) -> web.StreamResponse:
        if fault and (fault.kind is FaultKind.DELAY or not fault.accepted):
            answer = await self._faults.act(fault, request)
            if answer is not None:
                return answer
        if fault and fault.kind is FaultKind.ERROR:
            return self._refused(message, fault.code or 0)
        code = self._broken_rule(self.users.wa_id(message["to"].removeprefix("+")))
        if code is not None:
            return self._refused(message, code)
        entry = self._accept(message, fault)
        if fault and fault.kind not in (FaultKind.DELAY, FaultKind.FAILED):
            answer = await self._faults.act(fault, request)
            if answer is not None:
                return answer
        return web.json_response(_accepted(message, entry))

    def _access(self, request: web.Request) -> web.Response | None:
        if not _VERSION.fullmatch(request.match_info.get("version", "v1.0")):
            return _refuse(100, "Unknown version of the API.")
        if request.headers.get("Authorization") != f"Bearer {self._settings.token}":
            return _refuse(190, "Invalid OAuth access token - Cannot parse access token")
        return None

    def _broken_rule(self, recipient: str) -> int | None:
        """The code of the rule that one more message breaks; counts it where none is broken."""
        now = self._clock()
        if recipient == self._settings.display_phone_number:
            return 131021
        if not self.throughput.admits(now):
            return 130429
        if not self._pairs.admits(recipient, now):
            return 131056
        self.throughput.count(now)
        self._pairs.count(recipient, now)
        return None

    def _accept(self, message: dict[str, Any], fault: Fault | None) -> Entry:
        to = message["to"].removeprefix("+")
        recipient = self.users.wa_id(to)
        entry = self._journal.add(
            Kind.MESSAGE,
            to=to,
            wa_id=recipient,
            type=message.get("type", "text"),
            text=excerpt(content.summary(message)),
            wamid=new_wamid(recipient),
            callback_data=message.get("biz_opaque_callback_data"),
            history=[{"status": "accepted", "at": self._clock()}],
            error=None,
            fault=fault.kind if fault else None,
        )
        self._journal.totals["accepted"] += 1
        code = fault.code if fault and fault.kind is FaultKind.FAILED else None
        if self._settings.service_window and message.get("type") not in ("template", "reaction"):
            code = code or (None if self.users.in_window(recipient) else 131047)
        self.statuses.begin(entry, code=code)
        return entry

    def _refused(self, message: dict[str, Any], code: int, details: str = "") -> web.Response:
        to = message.get("to")
        self._journal.totals["refused"] += 1
        self._journal.add(
            Kind.MESSAGE,
            to=to.removeprefix("+") if isinstance(to, str) else "",
            type=str(message.get("type", "text")),
            text=excerpt(content.summary(message)),
            wamid=None,
            callback_data=None,
            history=[{"status": "refused", "at": self._clock()}],
            error=code,
            fault=None,
        )
        return _refuse(code, details)

    def _mark_read(self, message: dict[str, Any]) -> web.Response:
        wamid = message.get("message_id")
        if message.get("messaging_product") != "whatsapp" or message["status"] != "read":
            return _refuse(100, "Param status must be one of {READ}")
        if not isinstance(wamid, str) or not self.users.mark_read(wamid):
            return _refuse(131009, "Parameter value is not valid: message_id is not that of an inbound message")
        return web.json_response({"success": True})


def new_wamid(number: str) -> str:
    """A message id in WhatsApp's form, never the same twice."""
    raw = b"\x1c\x18" + bytes([len(number)]) + number.encode() + b"\x15\x02\x00\x11\x18\x12"
    return "wamid." + base64.b64encode(raw + secrets.token_hex(9).upper().encode() + b"\x00").decode()


def _accepted(message: dict[str, Any], entry: Entry) -> dict[str, Any]:
    told = {"id": entry.fields["wamid"]}
    if message.get("type") == "template":
        told["message_status"] = "accepted"
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": message["to"], "wa_id": entry.fields["wa_id"]}],
        "messages": [told],
    }


def _refuse(code: int, details: str = "") -> web.Response:
    return web.json_response(error_body(code, details), status=error_of(code).http_status)


def _no_such_object(request: web.Request, name: str) -> web.Response:
    body = error_body(
        100,
        f"Unsupported {request.method.lower()} request. Object with ID '{name}' does not exist, cannot be loaded "
        "due to missing permissions, or does not support this operation",
        subcode=33,
    )
    body["error"]["type"] = "GraphMethodException"
    return web.json_response(body, status=400)
