"""The WhatsApp Cloud API: sends one message and reports exactly what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from yarl import URL

from crmd.crm.outbound.adaptive_rate import AdaptiveRate
from crmd.crm.outbound.http import (
    Answer,
    Exchange,
    HttpClient,
    NoAnswer,
    NotSent,
    json_object,
    retry_after_seconds,
)
from crmd.crm.whatsapp.errors import THROUGHPUT_REACHED, ErrorRow, find_row
from crmd.crm.whatsapp.send_rate import SendLine

SEND_SECONDS = 30.0
_MAX_CALLBACK_DATA = 512  # Meta's limit of biz_opaque_callback_data
_MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Accepted:
    """WhatsApp took the message. That is not delivery, of which its webhooks tell."""

    message_id: str
    recipient: str
    """The recipient's WhatsApp id."""
    status: str
    """`accepted`, or `held_for_quality_assessment`."""


@dataclass(frozen=True, slots=True)
class Refused:
    """WhatsApp answered with an error of its own."""

    code: int
    subcode: int | None
    details: str
    """`error_data.details`, else the error's message; one line."""
    trace_id: str | None
    """`fbtrace_id`, which Meta's support asks for."""
    transient: bool
    """Whether the answer says that the error will pass."""
    http_status: int
    retry_after_seconds: float | None = None
    """What the answer's `Retry-After` asks for."""

    @property
    def row(self) -> ErrorRow | None:
        """What is known about the code."""
        return find_row(self.code)

    def __str__(self) -> str:
        meaning = self.row.meaning if self.row else "a code unknown to crmd"
        details = f": {self.details}" if self.details else ""
        trace = f" (fbtrace_id {self.trace_id})" if self.trace_id else ""
        return f"WhatsApp error {self.code}, {meaning}{details}{trace}"


@dataclass(frozen=True, slots=True)
class Unclear:
    """The message may have been taken, or not."""

    reason: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that is not WhatsApp answered, and refused the request."""

    status: int
    snippet: str
    retry_after_seconds: float | None = None
    """What the answer's `Retry-After` asks for."""


SendOutcome = Accepted | Refused | NotSent | Unclear | Foreign


class WhatsAppClient:
    """Sends messages from one business phone number; raises ValueError for settings that cannot work."""

    def __init__(
        self,
        http: HttpClient,
        *,
        base_url: str,
        api_version: str,
        phone_number_id: str,
        token: SecretStr,
        rate: AdaptiveRate | None = None,
        line: SendLine | None = None,
    ) -> None:
        secret = token.get_secret_value()
        if any(character <= " " or character > "~" for character in secret):
            raise ValueError("whatsapp.token has spaces, line ends or non-ASCII characters; copy it again")
        if phone_number_id and not phone_number_id.isdecimal():
            raise ValueError("whatsapp.phone_number_id must be the id, digits only, not the phone number")
        self._http = http
        self._url = URL(base_url) / api_version / (phone_number_id or "0") / "messages"
        self._token = token
        self.phone_number_id = phone_number_id
        self.configured = bool(phone_number_id and secret)
        self.adaptive_rate = rate or AdaptiveRate()
        self.line = line or SendLine(None)

    async def send(
        self,
        message: Mapping[str, Any],
        *,
        callback_data: str,
        slot_at: float | None = None,
        timeout_seconds: float = SEND_SECONDS,
    ) -> SendOutcome:
        """Sends a message in the API's own shape, once, at the slot that `line` gave it.

        `callback_data` comes back in each status webhook of the message.
        """
        body = {"messaging_product": "whatsapp", "recipient_type": "individual", **message}
        if len(callback_data) <= _MAX_CALLBACK_DATA:
            body["biz_opaque_callback_data"] = callback_data
        if slot_at is not None:
            await asyncio.sleep(max(0.0, slot_at - time.monotonic()))
        posted_at = time.monotonic()
        exchange = await self._post(body, timeout_seconds)
        if isinstance(exchange, NotSent):
            return exchange
        outcome = Unclear(exchange.reason) if isinstance(exchange, NoAnswer) else read_answer(exchange)
        if isinstance(outcome, Refused) and outcome.code == THROUGHPUT_REACHED:
            await self.line.refused(posted_at)
        return outcome

    async def mark_read(self, message_id: str, *, timeout_seconds: float) -> str | None:
        """Shows the sender of an inbound message that it was read; idempotent. Returns None, or why it failed."""
        body = {"messaging_product": "whatsapp", "status": "read", "message_id": message_id}
        exchange = await self._post(body, timeout_seconds)
        if isinstance(exchange, NotSent | NoAnswer):
            return exchange.reason
        refused = _refused(json_object(exchange.json().get("error")), exchange)
        if refused:
            return str(refused)
        return None if 200 <= exchange.status < 300 else f"HTTP {exchange.status}: {_line(exchange.snippet())}"

    async def _post(self, body: Mapping[str, Any], timeout_seconds: float) -> Exchange:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}", "Content-Type": "application/json"}
        return await self._http.post(
            self._url, body=json.dumps(body).encode(), headers=headers, timeout_seconds=timeout_seconds
        )


def read_answer(answer: Answer) -> SendOutcome:
    """What an answer says: by the error's code where there is one, never by the HTTP status alone."""
    data = answer.json()
    refused = _refused(json_object(data.get("error")), answer)
    if refused:
        return refused
    if 200 <= answer.status < 300:
        return _accepted(data) or Unclear(f"HTTP {answer.status} without a message id: {_line(answer.snippet())}")
    if not answer.complete or answer.status >= 500 or answer.status == 408:
        return Unclear(f"HTTP {answer.status} without a WhatsApp error: {_line(answer.snippet())}")
    return Foreign(answer.status, _line(answer.snippet()), retry_after_seconds(answer, time.time()))


def _accepted(data: dict[str, Any]) -> Accepted | None:
    message = _first(data.get("messages"))
    message_id = message.get("id")
    if not isinstance(message_id, str) or not message_id:
        return None
    recipient = _first(data.get("contacts")).get("wa_id")
    return Accepted(message_id, str(recipient or ""), str(message.get("message_status") or "accepted"))


def _refused(error: dict[str, Any], answer: Answer) -> Refused | None:
    code = error.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    subcode, trace_id = error.get("error_subcode"), error.get("fbtrace_id")
    details = json_object(error.get("error_data")).get("details") or error.get("message") or ""
    return Refused(
        code=code,
        subcode=subcode if isinstance(subcode, int) else None,
        details=_line(str(details)),
        trace_id=_line(str(trace_id)) if trace_id else None,
        transient=error.get("is_transient") is True,
        http_status=answer.status,
        retry_after_seconds=retry_after_seconds(answer, time.time()),
    )


def _first(value: Any) -> dict[str, Any]:
    return json_object(value[0]) if isinstance(value, list) and value else {}


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT]
