"""Events as Meta's webhook sends them, and their signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from tests.support.services import NUMBER_ID

SECRET = "app-secret-of-the-tests"


def event(
    *,
    statuses: list[Any] | None = None,
    messages: list[Any] | None = None,
    contacts: list[Any] | None = None,
    number_id: str = NUMBER_ID,
    **value: Any,
) -> dict[str, Any]:
    """An event with one change."""
    value |= {"messaging_product": "whatsapp", "metadata": {"phone_number_id": number_id}}
    for name, items in (("statuses", statuses), ("messages", messages), ("contacts", contacts)):
        if items is not None:
            value[name] = items
    changes = [{"field": "messages", "value": value}]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}


def status(wamid: str, name: str = "sent", **fields: Any) -> dict[str, Any]:
    """A status of a message."""
    return {
        "id": wamid,
        "status": name,
        "timestamp": str(int(time.time())),
        "recipient_id": "4915112345678",
        "conversation": {"id": "c"},
        **fields,
    }


def failure(wamid: str, code: int, **fields: Any) -> dict[str, Any]:
    """The status `failed`."""
    error = {"code": code, "title": f"title of {code}", "error_data": {"details": f"details of {code}"}}
    return status(wamid, "failed", errors=[error], **fields)


def text_message(wamid: str, text: str, sender: str = "4915112345678", **fields: Any) -> dict[str, Any]:
    """A text that a person wrote."""
    return {
        "id": wamid,
        "from": sender,
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": text},
        **fields,
    }


def sender(phone: str = "4915112345678", name: str = "Ada") -> dict[str, Any]:
    """Who wrote."""
    return {"wa_id": phone, "profile": {"name": name}}


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers of a webhook."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def raw(data: Any) -> bytes:
    """An event's body."""
    return json.dumps(data).encode()
