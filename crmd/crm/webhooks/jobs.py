"""Queue `webhook`: posts signed events to URLs and endpoints."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self, TypedDict

from pydantic import AfterValidator, Field, JsonValue, model_validator

from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.outbound.addresses import parse_target
from crmd.crm.outbound.http import Answer, Exchange, NotSent, request_seconds
from crmd.crm.payload import Payload, checked_by, invalid
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.client import Endpoint, WebhookClient
from crmd.crm.webhooks.repository import EndpointStatus
from crmd.errors import JobSignal, Permanent, RecordsError, Retry, Snooze
from crmd.jobs import JobContext, job

UNCONFIGURED_SECONDS = 60.0
MAX_HEADERS = 20
# Left of the job's own timeout for writing down what became of the request.
_RESERVE_SECONDS = 1.0
_TRY_AGAIN = frozenset({408, 425, 429})
_GONE = 410
_FREE_HEADERS = frozenset({"authorization", "traceparent", "tracestate", "user-agent"})
_FREE_HEADERS_TEXT = "X-… (but X-Forwarded-…), Authorization, User-Agent, Traceparent and Tracestate"
_HEADER_PREFIX = "x-"
# What servers and proxies believe about where a request comes from and what it means.
_TRUSTED_PREFIXES = (
    "x-forwarded-",
    "x-real-ip",
    "x-original-",
    "x-rewrite-",
    "x-http-method",
    "x-method-override",
)


def _check_header_name(name: str) -> str:
    lowered = name.lower()
    free = lowered in _FREE_HEADERS or lowered.startswith(_HEADER_PREFIX)
    if not free or lowered.startswith(_TRUSTED_PREFIXES):
        raise invalid(f"the header {name} cannot be set; {_FREE_HEADERS_TEXT} can")
    return name


def _check_json(data: JsonValue) -> JsonValue:
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:
        raise invalid("must not contain NaN or Infinity, which JSON does not have") from None
    return data


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_check_header_name)]
HeaderValue = Annotated[str, Field(max_length=1024, pattern=r"^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$")]


EventName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$", description="What happened, such as `contact.created`.")
]
EventData = Annotated[JsonValue, AfterValidator(_check_json), Field(description="Any JSON.")]
EventId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class DeliverWebhook(Payload):
    """One event for one URL, or for one endpoint of the configuration."""

    url: Annotated[
        Annotated[str, checked_by(parse_target)] | None,
        Field(description="https:// or http://, without a password."),
    ] = None
    endpoint: Annotated[
        str | None,
        Field(pattern=r"^[a-z0-9_-]{1,64}$", description="The name of an endpoint in `[webhook.endpoints]`."),
    ] = None
    event: EventName
    data: EventData = None
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Field(max_length=MAX_HEADERS, description=f"Further headers: {_FREE_HEADERS_TEXT}."),
    ] = Field(default_factory=dict)
    id: Annotated[
        EventId | None,
        Field(description="The event's id, by which receivers recognise a repeat; by default made from the job."),
    ] = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.url is None) == (self.endpoint is None):
            raise invalid("needs exactly one of url and endpoint")
        return self


class Delivered(TypedDict):
    """The receiver's answer."""

    status: int
    snippet: str
    """The start of its body."""
    attempt: int
    duration_ms: float


@job(queue="webhook", payload=DeliverWebhook)
async def deliver_webhook(ctx: JobContext, payload: DeliverWebhook) -> Delivered:
    """Posts the event once. Repeats have the same `webhook-id` and the same body."""
    client = ctx.get(WebhookClient)
    watch = await EndpointWatch.of(ctx, payload.endpoint) if payload.endpoint else None
    to = watch.endpoint if watch else parse_target(payload.url or "")
    if not client.can_sign(to):
        raise Snooze("webhook.secret is not set; the job waits until it is", after=UNCONFIGURED_SECONDS)
    exchange = await client.post(
        to,
        message_id=payload.id or message_id(ctx.key, payload),
        body=body(ctx.enqueued_at, payload),
        headers=payload.headers,
        timeout_seconds=request_seconds(ctx, client.timeout_seconds, _RESERVE_SECONDS),
    )
    if not isinstance(exchange, Answer) or not 200 <= exchange.status < 300:
        signal = _failure(client, exchange, str(to.host))
        if watch:
            await watch.failed(str(signal), gone=isinstance(exchange, Answer) and exchange.status == _GONE)
        raise signal
    if watch:
        await watch.succeeded()
    return Delivered(
        status=exchange.status,
        snippet=exchange.snippet(client.snippet_bytes),
        attempt=ctx.attempt,
        duration_ms=round(exchange.duration_ms, 1),
    )


def message_id(key: str, payload: DeliverWebhook) -> str:
    """The `webhook-id`: equal for the same event under the same job key, also where the job was added twice."""
    parts: list[Any] = [key, payload.event, payload.data]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"msg_{digest[:32]}"


def body(enqueued_at: float, payload: DeliverWebhook) -> str:
    """The posted JSON; it does not change from attempt to attempt."""
    at = datetime.fromtimestamp(enqueued_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": payload.event, "timestamp": at, "data": payload.data}, separators=(",", ":"))


def _failure(client: WebhookClient, exchange: Exchange, host: str) -> JobSignal:
    if isinstance(exchange, Answer):
        snippet = exchange.snippet(client.snippet_bytes)
        return _signal_for(exchange, snippet, client.retry_after_seconds(exchange), host)
    if isinstance(exchange, NotSent) and exchange.forbidden:
        return Permanent(f"the URL is refused: {exchange.reason}")
    return Retry(f"no answer from {host}: {exchange.reason}")


def _signal_for(answer: Answer, snippet: str, retry_after_seconds: float | None, host: str) -> JobSignal:
    line = " ".join(snippet.split())
    said = f"{host} answered {answer.status}: {line}" if line else f"{host} answered {answer.status}"
    if answer.status in _TRY_AGAIN or answer.status >= 500:
        # Never earlier than asked for, and a little apart, as many deliveries may have been told the same.
        after = retry_after_seconds and retry_after_seconds * random.uniform(1.0, 1.1)
        return Retry(said, after=after or None)
    code = f"http_{answer.status}"
    if 300 <= answer.status < 400:
        location = answer.headers.get("Location", "nowhere")[:300]
        return Permanent(
            f"{host} answered {answer.status}, a redirect to {location}; give that URL instead", code=code
        )
    return Permanent(said, code=code)


# Queue `webhook`: one event for all endpoints that want it


UNIQUE_SECONDS = 3600.0
"""A repeated event job finds its deliveries again for this long, even those that are over."""
_BATCH = 500


class PublishEvent(Payload):
    """One event for all endpoints whose `events` match it."""

    event: EventName
    data: EventData = None
    id: Annotated[
        EventId | None,
        Field(description="The event's id, the same for all endpoints; by default made from the job."),
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


# The endpoints of the configuration: whether they get events, and what becomes of those that fail


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
        """Ends the endpoint's time of failures: it took the event."""
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
