"""The endpoints of the configuration: whether they get events, and what becomes of those that fail."""

from __future__ import annotations

from datetime import timedelta

from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.client import Endpoint, WebhookClient
from crmd.crm.webhooks.repository import EndpointStatus
from crmd.errors import Permanent, RecordsError
from crmd.jobs import JobContext


class EndpointWatch:
    """One endpoint during one delivery. Where the database is unavailable it counts as one that works."""

    def __init__(self, ctx: JobContext, endpoint: Endpoint, status: EndpointStatus) -> None:
        self._ctx = ctx
        self._status = status
        self.endpoint = endpoint

    @classmethod
    async def of(cls, ctx: JobContext, name: str) -> EndpointWatch:
        """The endpoint of that name; raises Permanent where there is none, or it gets no events."""
        known = ctx.get(WebhookClient).endpoints
        if name not in known:
            named = f"there are: {', '.join(known)}" if known else "there is none"
            raise Permanent(f"no endpoint {name} in [webhook.endpoints]; {named}", code="no_endpoint")
        try:
            async with ctx.get(Database).reading() as session:
                status = await endpoints.status(session, name)
        except RecordsError as error:
            ctx.log.warning("the state of endpoint %s is not known: %s", name, error)
            status = EndpointStatus()
        if status.disabled_at is not None:
            since = f"{status.disabled_at:%Y-%m-%d %H:%M} UTC"
            reason = f"endpoint {name} is disabled since {since}: {status.reason}; {_enable(name)}"
            raise Permanent(reason, code="endpoint_disabled")
        return cls(ctx, known[name], status)

    async def succeeded(self) -> None:
        """It took the event."""
        if self._status.failing_since is None:
            return
        try:
            async with self._ctx.get(Database).transaction() as session:
                await endpoints.note_success(session, self.endpoint.name)
        except RecordsError as error:
            self._not_noted(error)

    async def failed(self, reason: str, *, gone: bool) -> None:
        """It did not take the event; `gone`: it says itself that it wants no more."""
        name, now, since = self.endpoint.name, utc_now(), self._status.failing_since
        seconds = self._ctx.get(WebhookClient).disable_after_seconds
        span = None if seconds is None else timedelta(seconds=0 if gone else seconds)
        if since is not None and (span is None or now - since < span):
            return  # nothing new: that it fails is noted, and it is not its time yet
        try:
            async with self._ctx.get(Database).transaction() as session:
                disabled = await endpoints.note_failure(session, name, now, reason, disable_after=span)
        except RecordsError as error:
            self._not_noted(error)
            return
        if disabled:
            self._ctx.log.error("endpoint %s gets no more events: %s; %s", name, reason, _enable(name))

    def _not_noted(self, error: RecordsError) -> None:
        self._ctx.log.warning("the state of endpoint %s is not noted: %s", self.endpoint.name, error)


def _enable(name: str) -> str:
    return f"to enable it again: POST /api/v1/webhook-endpoints/{name}/enable"
