"""The tables of `config.toml` about the process, its store, its HTTP side and the services outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from crmd.config.network import BasePath, Host, Listen, Network, NetworkRule, Port, is_loopback
from crmd.config.queue_tables import Name, QueueName, Table, check_known
from crmd.config.rules import Choice, Duration, Flag, FolderPath, ListOf, RateRule, Text, Whole
from crmd.config.secret import Password, Secret, WebhookSecret
from crmd.config.service_tables import EndpointTable
from crmd.config.urls import HttpUrl, StoreUrl
from crmd.engine.durations import Rate

Networks = Annotated[tuple[Annotated[Network, NetworkRule()], ...], ListOf('networks such as "10.0.0.0/8"')]


class Reserved(Table):
    """A table of a later version: no keys yet."""


class DaemonTable(Table):
    """The process itself."""

    state_dir: Annotated[Path, FolderPath()] = Field(
        Path(),
        description="State folder; empty: $STATE_DIRECTORY, /var/lib/crmd if usable, or $XDG_STATE_HOME/crmd.",
    )
    drain_timeout: Annotated[float, Duration("0s", "1d")] = Field(
        30.0, description="How long running jobs may go on after SIGTERM before they are given back."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Choice("debug", "info", "warning", "error")
    ] = Field("info", description="The least severe messages that are logged.")
    log_format: Annotated[Literal["auto", "text", "json"], Choice("auto", "text", "json")] = Field(
        "auto", description="auto is text on a terminal and under the journal, else json."
    )


class RedisTable(Table):
    """The store: Redis 7.0 or Valkey 7.2 or newer, not Cluster, with noeviction."""

    url: Annotated[SecretStr, StoreUrl()] = Field(
        SecretStr(""),
        description="Address of the store, such as redis://localhost:6379/0; empty: the embedded Valkey.",
    )
    listen: Annotated[str, Listen()] = Field(
        "",
        description='TCP address for the embedded store too, such as "127.0.0.1:6380", with a password it makes.',
    )
    fsync: Annotated[Literal["everysec", "always"], Choice("everysec", "always")] = Field(
        "everysec", description="When the embedded store writes to disk: once a second, or before each answer."
    )
    server: Annotated[Path, FolderPath()] = Field(
        Path(),
        description="Program of the embedded store; empty: the wheel's, valkey-server or redis-server from PATH.",
    )


class HttpTable(Table):
    """Health, metrics, API and pages."""

    host: Annotated[str, Host()] = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int | None, Port()] = Field(
        8080, description='Port to listen on; 0 is any free one, "none" is no HTTP.'
    )
    base_path: Annotated[str, BasePath()] = Field(
        "", description='Path below which everything is served, such as "/jobs" behind a proxy.'
    )
    trusted_proxies: Networks = Field((), description="Networks of the proxies whose X-Forwarded-For is believed.")
    allowed_hosts: Annotated[tuple[Annotated[str, Host()], ...], ListOf("host names")] = Field(
        (), description="Host names by which requests may come; empty: the listening address and localhost."
    )

    @property
    def on_loopback_only(self) -> bool:
        """Whether only this machine reaches the HTTP side, or nobody."""
        return self.port is None or is_loopback(self.host)


class TokenTable(Table):
    """A bearer token; `crmd token new NAME` makes one."""

    sha256: Annotated[
        str, Text("the token's SHA-256 as 64 hexadecimal digits", r"[0-9a-fA-F]{64}", shown=False)
    ] = Field(description="SHA-256 of the token in hexadecimal; the token itself is stored nowhere.")
    scopes: Annotated[
        tuple[
            Annotated[Literal["enqueue", "read", "operate"], Choice("enqueue", "read", "operate")],
            ...,
        ],
        ListOf('scopes: "enqueue", "read", "operate"'),
    ] = Field(description="What the token may do.")
    queues: Annotated[tuple[Annotated[str, QueueName()], ...], ListOf("queue names")] = Field(
        (), description="Queues that the token is for; empty: all."
    )

    @field_validator("sha256")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()

    @field_validator("scopes")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError('is empty; name at least one of "enqueue", "read", "operate"')
        return value

    @field_validator("queues")
    @classmethod
    def _known(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for name in value:
            check_known(name, info)
        return value


class AuthTable(Table):
    """Who may use HTTP."""

    username: Annotated[str, Text('a name of up to 128 characters without ":"', r"[^:]{1,128}", shown=False)] = (
        Field("admin", description="The user's name.")
    )
    password: Annotated[SecretStr, Password()] = Field(
        SecretStr(""),
        description="The user's password, 8 characters at least; empty: the first start makes one.",
    )
    public_metrics: Annotated[bool, Flag()] = Field(
        False, description="Whether /metrics and the three summaries are open to all."
    )
    tokens: dict[Name, TokenTable] = Field({}, description="Bearer tokens, by name.")

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


_LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "nl", "pt", "ru", "tr")


class WhatsAppTable(Table):
    """Meta's WhatsApp Cloud API."""

    base_url: Annotated[str, HttpUrl()] = Field("https://graph.facebook.com", description="Where the API is.")
    api_version: Annotated[str, Text('a version such as "v23.0"', r"v\d{1,3}\.\d{1,2}")] = Field(
        "v23.0", description="Version of the API."
    )
    phone_number_id: Annotated[str, Text("the digits of the number's id", r"\d{1,32}", empty=True)] = Field(
        "", description="Id of the sending number, not the number itself."
    )
    token: Annotated[SecretStr, Secret()] = Field(SecretStr(""), description="Access token.")
    rate: Annotated[Rate, RateRule(least=1, most=1000)] = Field(
        Rate(80, 1.0),
        description="Meta's limit for the number, messages out and in: 20/s where the Business app uses it too.",
    )
    app_secret: Annotated[SecretStr, Secret()] = Field(
        SecretStr(""), description="Secret of the app, which signs what Meta sends."
    )
    verify_token: Annotated[SecretStr, Secret()] = Field(
        SecretStr(""), description="Text of your own that Meta repeats when you register the webhook."
    )
    opt_out_words: Annotated[tuple[Annotated[str, Text("a word", r"[^\n]{1,64}")], ...], ListOf("words")] = Field(
        ("stop", "unsubscribe"),
        description="Words or phrases; a message that says just one of them opts its sender out of all messages.",
    )
    opt_out_languages: Annotated[tuple[Annotated[str, Choice(*_LANGUAGES)], ...], ListOf("languages")] = Field(
        _LANGUAGES, description="Languages whose shipped opt-out phrases are recognised too; [] for none."
    )
    opt_in_words: Annotated[tuple[Annotated[str, Text("a word", r"[^\n]{1,64}")], ...], ListOf("words")] = Field(
        ("start", "subscribe"),
        description="Words or phrases; a message that says just one of them opts its sender in again.",
    )


class WebhookTable(Table):
    """Webhooks that are delivered to others."""

    secret: Annotated[SecretStr, WebhookSecret()] = Field(
        SecretStr(""),
        description='Signing secret, "whsec_" and base64; empty: webhook jobs wait for one.',
    )
    allow_private: Networks = Field(
        (), description="Networks that URLs from jobs may lead to although they are private."
    )
    timeout: Annotated[float, Duration("100ms", "5m")] = Field(10.0, description="Longest wait for one answer.")
    snippet_bytes: Annotated[int, Whole(0, 65_536)] = Field(
        1024, description="Bytes of an answer that are kept with the job."
    )
    disable_after: Annotated[float | None, Duration("1m", "365d", none=True)] = Field(
        3 * 86_400.0,
        description="An endpoint that has failed for this long, without a success, gets no more events.",
    )
    endpoints: dict[Name, EndpointTable] = Field({}, description="Endpoints that events fan out to, by name.")
