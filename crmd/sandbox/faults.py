"""Faults on request: what the next answers of a stand-in do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_FAULTS = 100
HOLD_SECONDS = 120.0
"""A timeout lasts this long unless the fault says otherwise."""
HEADER = "X-Sandbox-Fault"
QUERY = "sandbox_fault"


class Service(StrEnum):
    """A stand-in."""

    WHATSAPP = "whatsapp"
    SMTP = "smtp"
    WEBHOOK = "webhook"
    AI = "ai"
    NOTICE = "notice"


class FaultKind(StrEnum):
    """What goes wrong."""

    ERROR = "error"
    """An error of the service's own, with `code`: Meta's, an SMTP reply, or an HTTP status of AI and webhooks."""
    STATUS = "status"
    """A bare HTTP status `code` with a page of text, as a proxy in front would give it."""
    TIMEOUT = "timeout"
    """The request is read, and no answer comes for `seconds`."""
    DROP = "drop"
    """The request is read, and the connection cut."""
    DELAY = "delay"
    """The answer comes `seconds` late."""
    FAILED = "failed"
    """WhatsApp only: the message is accepted, and fails later by webhook with `code`."""
    ANSWER = "answer"
    """HTTP only: the answer is this status `code`, `body` and `headers`, whatever they say."""
    BREAK_OFF = "break_off"
    """HTTP only: an answer of status `code` begins with `body`, and the connection is cut."""


class SmtpStage(StrEnum):
    """A command of SMTP at which something can go wrong."""

    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    NOOP = "noop"


_WITH_CODE = (FaultKind.ERROR, FaultKind.STATUS, FaultKind.FAILED, FaultKind.ANSWER, FaultKind.BREAK_OFF)
_HTTP_ONLY = (FaultKind.ANSWER, FaultKind.BREAK_OFF)
MAX_BODY_BYTES = 8 * 1024 * 1024
_PROMISED_BYTES = 100_000


class Fault(BaseModel):
    """One fault, for the next `times` requests that it fits."""

    model_config = ConfigDict(extra="forbid")

    service: Service = Service.WHATSAPP
    kind: FaultKind
    code: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None
    times: Annotated[int, Field(ge=1, le=100_000)] = 1
    to: Annotated[str, Field(pattern=r"^([0-9]{1,20}|[^\s@<>]{1,64}@[^\s@<>]{1,255})$")] | None = None
    """WhatsApp: the recipient's digits; mail at the stage rcpt: the recipient's address."""
    stage: SmtpStage | None = None
    """Mail only: the command at which it happens; None: once the whole mail has come."""
    text: Annotated[str, Field(pattern=r"^[ -~]{1,400}$")] | None = None
    """Mail only: what the reply says after its code."""
    accepted: bool | None = None
    """Whether the message was taken all the same, as happens in the world. By default a mail was not; WhatsApp's
    messages were, except those answered with an `error`."""
    mark_read: bool = False
    """WhatsApp only: for the mark that a user's message was read, in place of a message."""
    body: Annotated[bytes, Field(max_length=MAX_BODY_BYTES)] = b""
    headers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind in _WITH_CODE) != (self.code is not None):
            raise ValueError(f"code belongs to {', '.join(_WITH_CODE)}, and to no other kind")
        if self.kind is FaultKind.DELAY and self.seconds is None:
            raise ValueError("a delay needs seconds")
        if self.kind is FaultKind.FAILED and self.service is not Service.WHATSAPP:
            raise ValueError("only WhatsApp's messages fail later")
        if self.kind in _HTTP_ONLY and self.service is Service.SMTP:
            raise ValueError(f"{self.kind} is a fault of HTTP")
        if (self.stage or self.text) and self.service is not Service.SMTP:
            raise ValueError("stage and text belong to mail")
        if self.text and self.code is None:
            raise ValueError("text belongs to a code")
        if self.to and ("@" in self.to) != (self.stage is SmtpStage.RCPT):
            raise ValueError("to is digits for WhatsApp, and an address for mail at the stage rcpt")
        if (self.body or self.headers) and self.kind not in _HTTP_ONLY:
            raise ValueError(f"body and headers belong to {', '.join(_HTTP_ONLY)}")
        if self.accepted is None:
            self.accepted = self.service is not Service.SMTP
        return self

    @classmethod
    def parse(cls, text: str, service: Service) -> Self:
        """From a header or a query: `error:131026`, `delay:2`, `timeout`, `drop`; raises ValueError."""
        kind, _, number = text.partition(":")
        fields: dict[str, Any] = {"service": service, "kind": kind}
        if number:
            fields["code" if kind in _WITH_CODE else "seconds"] = number
        return cls.model_validate(fields)


class Faults:
    """The faults that are still to come, in order; at most MAX_FAULTS."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._changed = on_change
        self.released = asyncio.Event()
        """Set when held requests are to be let go."""
        self._pending: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Adds one; raises ValueError where there are too many."""
        if len(self._pending) >= MAX_FAULTS:
            raise ValueError(f"{MAX_FAULTS} faults are waiting already; clear them first")
        self._pending.append(fault.model_copy())
        self._changed()

    def take(
        self,
        service: Service,
        to: str | None = None,
        *,
        mark_read: bool = False,
        stage: SmtpStage | None = None,
    ) -> Fault | None:
        """The fault of the next request, or command of mail, which has then happened once."""
        wanted = service, mark_read, stage
        for fault in self._pending:
            if (fault.service, fault.mark_read, fault.stage) == wanted and fault.to in (None, to):
                fault.times -= 1
                if not fault.times:
                    self._pending.remove(fault)
                self._changed()
                return fault
        return None

    def pending(self) -> list[dict[str, Any]]:
        """What is still to come, bodies left out."""
        left_out = {"body", "headers"}
        return [fault.model_dump(mode="json", exclude_none=True, exclude=left_out) for fault in self._pending]

    def clear(self) -> None:
        """Nothing goes wrong any more; requests that are held are let go."""
        self._pending.clear()
        self._changed()
        self.release()

    def release(self) -> None:
        """Lets go the requests that are held."""
        self.released.set()
        self.released = asyncio.Event()

    def of_request(self, request: web.Request, service: Service, to: str | None = None) -> Fault | None:
        """The fault that the request asks for itself, else the next that is pending. Raises ValueError."""
        asked = request.headers.get(HEADER) or request.query.get(QUERY)
        return Fault.parse(asked, service) if asked else self.take(service, to)

    async def hold(self, seconds: float) -> None:
        """Waits, until released at the latest."""
        try:
            async with asyncio.timeout(seconds):
                await self.released.wait()
        except TimeoutError:
            return

    async def act(self, fault: Fault | None, request: web.Request) -> web.StreamResponse | None:
        """Does what all HTTP stand-ins do alike; None where the request is to be answered as ever."""
        if fault is None:
            return None
        if fault.kind is FaultKind.DELAY:
            await self.hold(fault.seconds or 0.0)
        elif fault.kind is FaultKind.STATUS:
            return web.Response(status=fault.code or 500, text=f"<html>{fault.code} by the sandbox</html>")
        elif fault.kind is FaultKind.ANSWER:
            return web.Response(status=fault.code or 200, body=fault.body, headers=fault.headers)
        elif fault.kind is FaultKind.BREAK_OFF:
            return await _break_off(fault, request)
        elif fault.kind in (FaultKind.TIMEOUT, FaultKind.DROP):
            if fault.kind is FaultKind.TIMEOUT:
                await self.hold(HOLD_SECONDS if fault.seconds is None else fault.seconds)
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return None


async def _break_off(fault: Fault, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=fault.code or 200, headers={"Content-Length": str(_PROMISED_BYTES)})
    await response.prepare(request)
    await response.write(fault.body[:_PROMISED_BYTES])
    if request.transport is not None:
        request.transport.close()
    return response
