"""Rows of the records as HTTP shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from crmd.crm.contacts.repository import ContactView
from crmd.crm.files.store import StoredFile
from crmd.crm.flows.repository import FlowView, RunState, RunView
from crmd.crm.schema import Message, MessageEvent

_WAITING = (RunState.WAITING, RunState.WAITING_FOR_REPLY)


def contact_json(contact: ContactView) -> dict[str, Any]:
    """A contact with its tags."""
    return {
        "id": contact.id,
        "phone": contact.phone,
        "name": contact.name,
        "email": contact.email,
        "tags": list(contact.tags),
        "attributes": contact.attributes,
        "opted_out_at": instant(contact.opted_out_at),
        "marketing_stopped_at": instant(contact.marketing_stopped_at),
        "last_inbound_at": instant(contact.last_inbound_at),
        "created_at": instant(contact.created_at),
        "updated_at": instant(contact.updated_at),
    }


def message_json(message: Message) -> dict[str, Any]:
    """A message as it stands."""
    job = {"queue": message.job_queue, "key": message.job_key} if message.job_key else None
    return {
        "id": message.id,
        "direction": message.direction,
        "phone": message.phone,
        "contact_id": message.contact_id,
        "campaign_id": message.campaign_id,
        "type": message.type,
        "text": message.text,
        "status": message.status,
        "status_at": instant(message.status_at),
        "error_code": message.error_code,
        "error": message.error,
        "wamid": message.wamid,
        "job": job,
        "created_at": instant(message.created_at),
    }


def event_json(event: MessageEvent) -> dict[str, Any]:
    """A step in a message's history."""
    return {"status": event.status, "at": instant(event.at), "error_code": event.error_code}


def flow_json(view: FlowView) -> dict[str, Any]:
    """A flow without its steps."""
    flow = view.flow
    return {
        "name": flow.name,
        "description": flow.definition.get("description", ""),
        "enabled": flow.enabled,
        "start": flow.definition.get("start", {"on": "manual"}),
        "steps": len(flow.definition["steps"]),
        "live_runs": view.live_runs,
        "created_at": instant(flow.created_at),
        "updated_at": instant(flow.updated_at),
    }


def run_json(view: RunView) -> dict[str, Any]:
    """A run of a flow."""
    run = view.run
    return {
        "id": run.id,
        "phone": view.phone,
        "contact_id": run.contact_id,
        "state": run.state,
        "step": run.step,
        "count": run.count,
        "reply": run.data.get("reply"),
        "saved": run.data.get("saved", {}),
        "error": run.error,
        "wake_at": instant(run.wake_at) if run.state in _WAITING else None,
        "created_at": instant(run.created_at),
        "updated_at": instant(run.updated_at),
    }


def file_json(file: StoredFile) -> dict[str, Any]:
    """A file, without its bytes."""
    return {
        "id": file.id,
        "name": file.name,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "expires_at": instant(file.expires_at),
    }


def instant(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
