"""When a schedule runs: checks of cron expressions and time zones."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from difflib import get_close_matches

from crmd.config.rules import Rule
from crmd.formatting import show

_CRON_FIELDS = 5
_ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")


class Cron(Rule):
    """A cron expression of five fields that comes due some time."""

    def describe(self) -> str:
        return "cron expression"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f'must be a cron expression such as "5 0 * * *", not {show(value)}')
        text = " ".join(value.split()).lower()
        if text not in _ALIASES:
            _check_form(text)
        _check_comes_due(text)
        return text


class TimeZone(Rule):
    """A name of the IANA time zone database."""

    def describe(self) -> str:
        return "time zone"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f'must be a time zone such as "Europe/Berlin", not {show(value)}')
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            close = get_close_matches(value, zoneinfo.available_timezones(), 1)
            hint = f'; did you mean "{close[0]}"?' if close else '; write one such as "Europe/Berlin"'
            raise ValueError(f"{show(value)} is no time zone{hint}") from None
        return value


def _check_form(text: str) -> None:
    count = len(text.split(" ")) if text else 0
    if count != _CRON_FIELDS:
        # With six, some systems have seconds first and others last: refuse rather than guess.
        raise ValueError(
            f"{show(text)} has {count} fields; a cron expression has five: minute, hour, day, month, day of week"
        )
    if any(part.startswith(("r", "h")) for field in text.split(" ") for part in field.split(",")):
        raise ValueError(f"{show(text)} has a random or hashed field, which every daemon would read differently")


def _check_comes_due(text: str) -> None:
    # Imported where it is needed: it costs a command line that has no schedules 30 ms.
    from croniter import CroniterBadDateError, croniter

    try:
        croniter(text, datetime(2024, 1, 1, tzinfo=UTC)).get_next()
    except CroniterBadDateError:
        raise ValueError(f"{show(text)} never comes due") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{show(text)} is not a cron expression: {error}") from None
