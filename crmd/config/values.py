"""The kinds of values that `config.toml` has, as types that pydantic checks.

A type's title completes the sentence "must be …". A validator that raises a ValueError without a text means just
that sentence; one with a text has more to say.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import zoneinfo
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationInfo,
    WrapSerializer,
)

from crmd.config.mailbox import read_mailbox
from crmd.engine.durations import Rate, format_duration, parse_duration
from crmd.engine.store.address import check_store_url, split_url
from crmd.formatting import is_clean, mask_url, show

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MILLISECOND, MINUTE, DAY = 0.001, 60.0, 86_400.0
"""Bounds of durations, in seconds."""

PASSWORD_MIN_CHARACTERS = 8
PORT_MAX = 65_535
RATE_COUNT_MAX = 1_000_000
RESERVED_QUEUE_NAMES = ("job", "abort", "health", "metrics", "statistics")
WEBHOOK_PREFIX = "whsec_"

_DEFAULT_OF_THE_REPLACED_SYSTEM = "admin123"
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_LISTEN = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_NAME = r"[a-z0-9_-]{1,64}"
_CRON_FIELDS = 5
_CRON_ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")


# What any value may be.


def _read_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip() == "none" else value


def _write_none(value: Any, handler: SerializerFunctionWrapHandler) -> object:
    return "none" if value is None else handler(value)


NONE = BeforeValidator(_read_none)
OrNone = Annotated[T | None, NONE, WrapSerializer(_write_none)]
"""A value or `"none"`, which is None. (`X | None` is a key that may be absent.)"""


def _each_once(value: object) -> object:
    items = value if isinstance(value, list) else []
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ValueError(f"has {show(item)} twice")
    return value


Several = Annotated[tuple[T, ...], BeforeValidator(_each_once)]
"""A list without duplicates."""

LOWER = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)
"""A word that may be written in capitals."""


# Numbers, durations, rates. Bounds are the field's `ge` and `le`.

Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Share = Annotated[float, Strict(), Field(ge=0, le=1, title="a number from 0 to 1")]


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    # parse_duration answers a bare number with the two ways to read it.
    seconds = parse_duration(cast(str, value))
    if seconds is None:
        raise ValueError
    return seconds


Duration = Annotated[float, BeforeValidator(_seconds), PlainSerializer(format_duration)]
"""Seconds, written with a unit."""


def _rate(value: object) -> Rate:
    if not isinstance(value, str):
        raise ValueError
    rate = Rate.parse(value)
    if rate.count > RATE_COUNT_MAX or rate.period_seconds > 31 * DAY:
        raise ValueError(f"must be at most {RATE_COUNT_MAX} in at most 31d, not {show(value)}")
    return rate


AnyRate = Annotated[Rate, PlainValidator(_rate), PlainSerializer(str), Field(title='a rate such as "20/min"')]


# Names and text.


def _not_reserved(name: str) -> str:
    if name in RESERVED_QUEUE_NAMES:
        raise ValueError(f"{show(name)} is reserved; queues cannot be named {', '.join(RESERVED_QUEUE_NAMES)}")
    return name


def _known(name: str, info: ValidationInfo) -> str:
    # The names are passed in by load(), so that this mistake is found beside all the others.
    known = (info.context or {}).get("queues")
    if known is not None and name not in known:
        close = get_close_matches(name, known, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(known)}"
        raise ValueError(f"there is no queue {show(name)}; {hint}")
    return name


Name = Annotated[str, Field(pattern=rf"^{_NAME}\Z", title="1 to 64 of the characters a-z 0-9 _ -")]
QueueName = Annotated[Name, AfterValidator(_not_reserved)]
KnownQueue = Annotated[QueueName, AfterValidator(_known)]


def _mailbox(text: str) -> str:
    if text:
        try:
            read_mailbox(text)
        except ValueError as error:
            raise ValueError(f"{show(text)} {error}") from None
    return text


MailAddress = Annotated[
    str, AfterValidator(_mailbox), Field(title='a mail address such as "CRM <crm@example.com>"')
]


def _payload(table: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(table, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("holds what JSON cannot, such as a date, inf or nan; write it as text") from None
    return table


Payload = Annotated[dict[str, Any], AfterValidator(_payload)]


def _path(path: Path) -> Path:
    if not is_clean(str(path)):
        raise ValueError
    return path


FilePath = Annotated[
    Path,
    AfterValidator(_path),
    PlainSerializer(lambda path: "" if path == Path() else str(path)),
    Field(title="a path"),
]
"""A path; empty text is `Path()`."""


# Time.


def _cron(value: str) -> str:
    text = " ".join(value.split()).lower()
    fields = text.split(" ") if text else []
    if text not in _CRON_ALIASES:
        if len(fields) != _CRON_FIELDS:
            # With six, some systems have seconds first and others last: refuse rather than guess.
            raise ValueError(
                f"{show(text)} has {len(fields)} fields; "
                "a cron expression has five: minute, hour, day, month, day of week"
            )
        if any(part.startswith(("r", "h")) for field in fields for part in field.split(",")):
            raise ValueError(
                f"{show(text)} has a random or hashed field, which every daemon would read differently"
            )
    # Imported where it is needed: it costs a command line that has no schedules 30 ms.
    from croniter import CroniterBadDateError, croniter

    try:
        croniter(text, datetime(2024, 1, 1, tzinfo=UTC)).get_next()
    except CroniterBadDateError:
        raise ValueError(f"{show(text)} never comes due") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{show(text)} is not a cron expression: {error}") from None
    return text


def _time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = get_close_matches(value, zoneinfo.available_timezones(), 1)
        hint = f'; did you mean "{close[0]}"?' if close else '; write one such as "Europe/Berlin"'
        raise ValueError(f"{show(value)} is not a time zone{hint}") from None
    return value


Cron = Annotated[str, AfterValidator(_cron), Field(title='a cron expression such as "5 0 * * *"')]
TimeZone = Annotated[str, AfterValidator(_time_zone), Field(title='a time zone such as "Europe/Berlin"')]


# The network.


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "localhost.")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # A name of digits and dots only is a mistyped address.
        return bool(_HOST_NAME.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text)
    return True


def _host(text: str) -> str:
    if not _is_host(text):
        raise ValueError
    return text.lower()


def _listen(text: str) -> str:
    match = _LISTEN.fullmatch(text)
    if text and (not match or not _is_host(match[1] or match[2]) or not 1 <= int(match[3]) <= PORT_MAX):
        raise ValueError
    return text


def _network(value: object) -> Network:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise ValueError
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError from None
    if ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f'{show(value)} is an address inside a network; write "{network}"')
    return network


def _base_path(text: str) -> str:
    segments = text.strip("/").split("/")
    if segments == [""]:
        return ""
    if any(not _SEGMENT.fullmatch(part) or part in (".", "..") for part in segments):
        raise ValueError
    return "/" + "/".join(segments)


Host = Annotated[str, AfterValidator(_host), Field(title='a host name or an IP address such as "127.0.0.1"')]
Listen = Annotated[str, AfterValidator(_listen), Field(title='an address and a port such as "127.0.0.1:6380"')]
Port = OrNone[Annotated[Whole, Field(ge=0, le=PORT_MAX, title=f"a port from 1 to {PORT_MAX}, 0 for any free one")]]
Networks = Annotated[
    Several[
        Annotated[
            Network,
            PlainValidator(_network),
            PlainSerializer(str),
            Field(title='a network such as "10.0.0.0/8"'),
        ]
    ],
    Field(title='a list of networks such as "10.0.0.0/8"'),
]
BasePath = Annotated[str, AfterValidator(_base_path), Field(title='a path such as "/jobs"')]
HttpUrl = Annotated[
    str,
    Field(
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z",
        title='a URL such as "https://example.com", without credentials',
        repr=False,
    ),
    AfterValidator(lambda url: url.rstrip("/")),
]


# Secrets: never shown.


def _holding(check: Callable[[str], object]) -> AfterValidator:
    """A check of the text of a secret that is set."""

    def validate(secret: SecretStr) -> SecretStr:
        if text := secret.get_secret_value():
            check(text)
        return secret

    return AfterValidator(validate)


def _clean(text: str) -> None:
    if not is_clean(text):
        raise ValueError("has control characters or is not UTF-8")


def check_password(text: str) -> None:
    """Raises ValueError that says why a password is refused."""
    if len(text) < PASSWORD_MIN_CHARACTERS:
        raise ValueError(f"is shorter than {PASSWORD_MIN_CHARACTERS} characters")
    if text == _DEFAULT_OF_THE_REPLACED_SYSTEM:
        raise ValueError("is the well-known default of the replaced system; choose another one")


def signing_key(text: str) -> bytes:
    """The key in a signing secret; raises ValueError that says why there is none."""
    digits = text.removeprefix(WEBHOOK_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f'must be "{WEBHOOK_PREFIX}" and base64; make one with: openssl rand -base64 32')
    return key


def _check_channel_url(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    if not (separator and rest and scheme.replace("+", "").isalnum()):
        raise ValueError('must be an Apprise URL such as "slack://…"; https://appriseit.com lists them')


def _check_database_url(text: str) -> None:
    scheme = split_url(text).scheme
    if scheme not in ("postgresql", "postgres", "sqlite"):
        raise ValueError(f'scheme "{scheme}" is not supported; write postgresql:// or sqlite:///')


_MASKED = PlainSerializer(lambda url: mask_url(url.get_secret_value()))

Secret = Annotated[SecretStr, _holding(_clean), PlainSerializer(str), Field(title="text in quotes")]
Password = Annotated[Secret, _holding(check_password)]
SigningSecret = Annotated[Secret, _holding(signing_key)]
ChannelUrl = Annotated[Secret, _holding(_check_channel_url)]
StoreUrl = Annotated[
    SecretStr, _holding(check_store_url), _MASKED, Field(title="a URL: redis://, rediss:// or unix://")
]
DatabaseUrl = Annotated[
    SecretStr, _holding(_check_database_url), _MASKED, Field(title="a URL: postgresql:// or sqlite://")
]
