"""The tables of `config.toml` about the records, files and services that the shipped jobs use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from crmd.config.mailbox import MailboxText
from crmd.config.network import is_loopback
from crmd.config.queue_tables import Name, Table
from crmd.config.rules import Choice, Duration, FolderPath, ListOf, Share, Text, Whole
from crmd.config.secret import Secret, ServiceUrl, WebhookSecret
from crmd.config.urls import DatabaseUrl, HttpUrl

Level = Literal["info", "warning", "error"]
LevelChoice = Choice("info", "warning", "error")


class SmtpTable(Table):
    """The mail server that `send_email` hands mail to."""

    host: Annotated[str, Text("a host name or an IP address", r"[A-Za-z0-9._:-]{1,253}", empty=True)] = Field(
        "", description="Mail server; empty: email jobs wait for one."
    )
    port: Annotated[int, Whole(1, 65_535)] = Field(587, description="Its port.")
    security: Annotated[Literal["starttls", "tls", "none"], Choice("starttls", "tls", "none")] = Field(
        "starttls", description="starttls and tls verify the server's certificate; none is for this machine only."
    )
    username: Annotated[str, Text("a name", r".{1,256}", empty=True)] = Field(
        "", description="User's name; empty: no login."
    )
    password: Annotated[SecretStr, Secret()] = Field(SecretStr(""), description="User's password.")
    sender: Annotated[str, MailboxText()] = Field("", description="Sender of mail whose job names none.")
    connections: Annotated[int, Whole(1, 50)] = Field(2, description="Connections kept open at most.")
    timeout: Annotated[float, Duration("1s", "10m")] = Field(30.0, description="Longest wait for one answer.")

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        if self.security == "none" and self.username and self.host and not is_loopback(self.host):
            raise ValueError(
                'security is "none", so username and password would cross the network readable; '
                'use "starttls" or "tls"'
            )
        return self


class AiTable(Table):
    """A service that speaks OpenAI's protocol."""

    base_url: Annotated[str, HttpUrl()] = Field("https://api.openai.com/v1", description="Where the API is.")
    key: Annotated[SecretStr, Secret()] = Field(
        SecretStr(""), description="API key; empty with the default address: ai jobs wait for one."
    )
    model: Annotated[str, Text("a model's name", r".{1,200}")] = Field(
        "gpt-4o-mini", description="Model for chat_reply."
    )
    transcription_model: Annotated[str, Text("a model's name", r".{1,200}")] = Field(
        "whisper-1", description="Model for transcribe_audio."
    )
    timeout: Annotated[float, Duration("1s", "30m")] = Field(120.0, description="Longest wait for one answer.")


class ChannelTable(Table):
    """A channel of notifications."""

    url: Annotated[SecretStr, ServiceUrl()] = Field(
        description='Apprise URL, such as "slack://…", "msteams://…", "tgram://…", "mailto://…".'
    )
    level: Annotated[Level, LevelChoice] = Field("info", description="The least severe notifications it gets.")


class AlertsTable(Table):
    """What crmd itself tells people."""

    channel: Annotated[str, Text("a channel's name", r"[a-z0-9_-]{1,64}")] = Field(
        "log", description='Channel for the alerts; "log" is the daemon\'s log.'
    )
    oldest_waiting: Annotated[float | None, Duration("1s", "30d", none=True)] = Field(
        900.0, description="Alert when a job has waited this long and its queue is neither paused nor limited."
    )
    failure_share: Annotated[float, Share()] = Field(
        0.5, description="Alert when this share of at least 20 jobs failed within five minutes; 1: never."
    )
    store_away: Annotated[float | None, Duration("1s", "1d", none=True)] = Field(
        30.0, description="Alert when the store was away this long: in the log at once, elsewhere once it is back."
    )
    repeat: Annotated[float, Duration("1m", "30d")] = Field(
        3600.0, description="How often the same alert is repeated while it lasts."
    )


class NotifyTable(Table):
    """Notifications to people."""

    group_window: Annotated[float, Duration("1s", "1d")] = Field(
        60.0, description="Notifications of one group within this time become one message."
    )
    timeout: Annotated[float, Duration("1s", "5m")] = Field(
        30.0, description="Longest wait for a channel's answer."
    )
    channels: dict[Name, ChannelTable] = Field({}, description="Channels, by name.")
    alerts: AlertsTable = Field(AlertsTable(), description="crmd's own alerts.")

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


class DatabaseTable(Table):
    """The records: contacts, messages, campaigns, flows, reports."""

    url: Annotated[SecretStr, DatabaseUrl()] = Field(
        SecretStr(""),
        description="Such as postgresql://user@host/name; empty: an SQLite file in the state folder.",
    )
    connections: Annotated[int, Whole(1, 100)] = Field(5, description="Connections kept open at most.")


class FilesTable(Table):
    """Uploads, exports and reports."""

    folder: Annotated[Path, FolderPath()] = Field(
        Path(), description="Where they are kept; empty: `files` in the state folder. Daemons may share one."
    )
    max_bytes: Annotated[int, Whole(1, 1_099_511_627_776)] = Field(
        104_857_600, description="Largest upload in bytes."
    )
    keep: Annotated[float, Duration("1m", "3650d")] = Field(
        7 * 86_400.0, description="How long uploads, exports and reports are kept."
    )
    quota_files: Annotated[int, Whole(1, 1_000_000)] = Field(
        10_000, description="Most uploads kept for one user or token."
    )
    quota_bytes: Annotated[int, Whole(1, 1_099_511_627_776)] = Field(
        10_737_418_240, description="Most bytes of uploads kept for one user or token."
    )
    keep_free: Annotated[int, Whole(0, 1_099_511_627_776)] = Field(
        1_073_741_824, description="Bytes that files leave free on their disk, which the store may need too."
    )


class EndpointTable(Table):
    """An endpoint that events are delivered to."""

    url: Annotated[
        str, Text('a URL such as "https://example.com/hook"', r"https?://[^\s/@]+(/\S*)?", shown=False)
    ] = Field(description="Where events are posted.")
    secret: Annotated[SecretStr, WebhookSecret()] = Field(
        SecretStr(""), description='Its own signing secret, "whsec_" and base64; empty: webhook.secret.'
    )
    events: Annotated[
        tuple[Annotated[str, Text("an event's name", r"[A-Za-z0-9._:/*-]{1,128}")], ...],
        ListOf('events such as "message.*"'),
    ] = Field((), description='Events it gets, such as "message.*"; empty: all.')
