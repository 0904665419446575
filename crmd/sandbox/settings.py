"""What the stand-ins listen on, accept and do; and how crmd is pointed at them."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Literal, Self

Security = Literal["none", "starttls", "tls"]
Tables = dict[str, dict[str, str | int | list[str]]]
"""Tables of `config.toml`, by dotted name."""
DAEMON_CALLBACK = "http://127.0.0.1:8080/webhooks/whatsapp"
"""Where a daemon with the shipped settings takes WhatsApp's webhooks."""
MOST_PER_SECOND = 1000
"""That Meta gives a number, and that crmd takes for its rate."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is shown in place of these


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """All of it; tokens and secrets are known to everyone, as nothing here is worth guarding."""

    host: str = "127.0.0.1"
    port: int = 8090
    """HTTP; 0 is any free one."""
    smtp_port: int = 8025
    """Mail; 0 is any free one."""
    smtp_username: str = ""
    """Has to log in with the password; empty: any name and password will do, and none."""
    smtp_password: str = ""
    smtp_security: Security = "none"
    """As in crmd's own settings. All but none is insisted on, and needs `smtp_tls`."""
    smtp_tls: ssl.SSLContext | None = None
    callback_url: str | None = DAEMON_CALLBACK
    """Where statuses and inbound messages are posted; None: nowhere."""
    phone_number_id: str = "106540352242922"
    display_phone_number: str = "15550783881"
    account_id: str = "102290129340398"
    token: str = "sandbox-token"  # noqa: S105 - for everyone to know
    app_secret: str = "sandbox-app-secret"  # noqa: S105 - as above
    verify_token: str = "sandbox-verify-token"  # noqa: S105 - as above
    webhook_secret: str = "whsec_c2FuZGJveC1vbmx5LCBub3QgYSBzZWNyZXQ="  # noqa: S105 - as above
    ai_key: str = "sandbox-key"
    messages_per_second: int = 80
    throughput_bucket: int = 0
    """Size of a token bucket that keeps to `messages_per_second`; 0: a strict window of one second does."""
    pair_seconds: float = 6.0
    """One message to a recipient costs this many seconds of the pair's quota."""
    pair_burst: int = 45
    """Most messages to one recipient within `pair_seconds`."""
    service_window: bool = False
    """Whether free-form messages fail (131047, by webhook) where the recipient did not write within 24 hours."""
    status_seconds: tuple[float, float, float] = (0.4, 1.5, 4.0)
    """When a message is sent, delivered, read; after it was accepted."""
    read_share: float = 0.7
    """Share of the delivered messages that are read."""
    failed_share: float = 0.04
    """Share of the accepted messages that fail later."""
    seed: int = 1
    """Of the dice that choose which are read and which fail."""
    keep: int = 1000
    """Entries kept of each kind."""

    def __post_init__(self) -> None:
        if (self.smtp_security == "none") != (self.smtp_tls is None):
            raise ValueError("smtp_tls is for the smtp_security starttls and tls, which need it")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started sandbox is found."""

    host: str
    port: int
    smtp_port: int

    @classmethod
    def of(cls, settings: SandboxSettings, port: int, smtp_port: int) -> Self:
        """Those of a sandbox on these ports; one that listens everywhere is found on this machine."""
        return cls(_EVERYWHERE.get(settings.host, settings.host), port, smtp_port)

    @property
    def url(self) -> str:
        """The page, and what all HTTP stand-ins stand below."""
        return f"http://{_in_url(self.host)}:{self.port}"

    @property
    def hooks_url(self) -> str:
        """A URL for `deliver_webhook` and for endpoints; any path below it will do."""
        return f"{self.url}/hooks"

    def configuration(self, settings: SandboxSettings) -> Tables:
        """The tables of `config.toml` that point crmd at the stand-ins."""
        return {
            "whatsapp": {
                "base_url": self.url,
                "phone_number_id": settings.phone_number_id,
                "token": settings.token,
                "rate": f"{min(settings.messages_per_second, MOST_PER_SECOND)}/s",
                "app_secret": settings.app_secret,
                "verify_token": settings.verify_token,
            },
            "smtp": {
                "host": self.host,
                "port": self.smtp_port,
                "security": settings.smtp_security,
                "sender": "CRM <crm@sandbox.test>",
                **_login(settings),
            },
            "webhook": {"secret": settings.webhook_secret, "allow_private": [f"{self.host}/{_prefix(self.host)}"]},
            "ai": {"base_url": f"{self.url}/v1", "key": settings.ai_key},
            "notify.channels.sandbox": {"url": f"json://{_in_url(self.host)}:{self.port}/notify"},
        }

    def environment(self, settings: SandboxSettings) -> dict[str, str]:
        """The same as environment variables."""
        return {
            f"CRMD_{table.upper().replace('.', '__')}__{key.upper()}": _plain(value)
            for table, keys in self.configuration(settings).items()
            for key, value in keys.items()
        }


def toml_lines(tables: Tables) -> list[str]:
    """Tables as lines of TOML, an empty one between."""
    lines: list[str] = []
    for table, keys in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return lines[1:]


def _login(settings: SandboxSettings) -> dict[str, str | int | list[str]]:
    username, password = settings.smtp_username, settings.smtp_password
    return {"username": username, "password": password} if username else {}


def _plain(value: str | int | list[str]) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _prefix(host: str) -> int:
    return 128 if ":" in host else 32
