"""Queue `webhook`: one event for all endpoints that want it."""

from __future__ import annotations

import hashlib
from typing import Annotated, TypedDict

from pydantic import Field

from crmd.crm.database.database import Database
from crmd.crm.payload import Payload
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.webhooks.jobs import DeliverWebhook, EventData, EventId, EventName
from crmd.jobs import JobContext, job

UNIQUE_SECONDS = 3600.0
"""A repeated event job finds its deliveries again for so long, even those that are over."""
_BATCH = 500


class PublishEvent(Payload):
    """One event for all endpoints whose `events` match it."""

    event: EventName
    data: EventData = None
    id: Annotated[
        EventId | None,
        Field(description="The event's id, the same for all endpoints; else it is made from the job."),
    ] = None


class Published(TypedDict):
    """Which endpoints get the event."""

    endpoints: list[str]
    disabled: list[str]
    """Those that would, and are disabled."""


@job(queue="webhook", payload=PublishEvent)
async def publish_event(ctx: JobContext, payload: PublishEvent) -> Published:
    """Adds one delivery for each endpoint. A repeat adds none that is there already."""
    wanting = [name for name, one in ctx.get(WebhookClient).endpoints.items() if one.wants(payload.event)]
    async with ctx.get(Database).reading() as session:
        known = await endpoints.statuses(session, tuple(wanting))
    disabled = [name for name in wanting if name in known and known[name].disabled_at is not None]
    chosen = [name for name in wanting if name not in disabled]
    digest = hashlib.sha256(f"{ctx.key}\n{round(ctx.enqueued_at * 1000)}".encode()).hexdigest()[:32]
    deliveries = [
        (
            _delivery(payload, name, payload.id or f"evt_{digest}"),
            {"key": f"event:{digest}:{name}", "unique_for": UNIQUE_SECONDS},
        )
        for name in chosen
    ]
    for begin in range(0, len(deliveries), _BATCH):
        await ctx.enqueue_many("webhook", "deliver_webhook", deliveries[begin : begin + _BATCH])
    return Published(endpoints=chosen, disabled=disabled)


def _delivery(payload: PublishEvent, endpoint: str, event_id: str) -> DeliverWebhook:
    return DeliverWebhook(endpoint=endpoint, event=payload.event, data=payload.data, id=event_id)
