"""Durations and rates as people write them: `"30s"`, `"20/min"`, `"1/6s"`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from crmd.formatting import show

SECONDS_BY_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
END_OF_TIME = 253_402_300_800.0
"""Epoch seconds of the year 10000. What foreign programs write may lie beyond it."""

# Twelve digits are more than any bound allows and keep hostile input away from int() and float().
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(ms|s|min|m|h|d)", re.ASCII)
_RATE = re.compile(r"(\d{1,12})\s*/\s*(\d{1,12}(?:\.\d{1,12})?)?\s*(ms|s|min|m|h|d)", re.ASCII)
_BARE_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,12})?", re.ASCII)

_HOW = 'write a number with ms, s, m, h or d, such as "30s", or "none"'


def parse_duration(text: str) -> float | None:
    """Seconds of a duration such as `"500ms"` or `"10m"`; None for `"none"`.

    Raises ValueError with a message that says what to write.
    """
    if not isinstance(text, str):
        raise ValueError(
            _bare_number_message(text) if _is_number(text) else f"{show(text)} is not a duration; {_HOW}"
        )
    cleaned = text.strip()
    if cleaned == "none":
        return None
    match = _DURATION.fullmatch(cleaned)
    if match:
        return _seconds(match[1], match[2])
    if _BARE_NUMBER.fullmatch(cleaned):
        raise ValueError(_bare_number_message(cleaned))
    raise ValueError(f"{show(text)} is not a duration; {_HOW}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bare_number_message(value: object) -> str:
    return f'{value} has no unit; write "{value}s" for seconds or "{value}ms" for milliseconds (Bull\'s unit)'


def _seconds(number: str, unit: str) -> float:
    # Decimal, because 2.3 * 60.0 is not 138.0.
    return float(Decimal(number) * Decimal(str(SECONDS_BY_UNIT[unit])))


def format_duration(seconds: float | None) -> str:
    """The shortest exact way to write a duration: `90.0` is `"90s"`, `600.0` is `"10m"`, None is `"none"`."""
    if seconds is None:
        return "none"
    for unit in ("d", "h", "m", "s"):
        count = seconds / SECONDS_BY_UNIT[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    if 0 < seconds < 1:
        return f"{_plain(Decimal(str(seconds)) * 1000)}ms"
    return f"{_plain(Decimal(str(seconds)))}s"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `period_seconds`."""

    count: int
    period_seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Reads `"20/min"`, `"80/s"`, `"100/10s"`; raises ValueError that says what to write."""
        match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
        if not match:
            raise ValueError(
                f'{show(text)} is not a rate; write count/period, such as "20/min", "80/s" or "100/10s"'
            )
        count, period = int(match[1]), _seconds(match[2] or "1", match[3])
        if count < 1 or period <= 0:
            raise ValueError(f'"{text}" lets nothing through; pause the queue instead')
        return cls(count, period)

    @property
    def per_second(self) -> float:
        """Starts a second, on average."""
        return self.count / self.period_seconds

    def __str__(self) -> str:
        """The rate as people write it; `Rate.parse` reads it back."""
        period = format_duration(self.period_seconds)
        period = f"{period}in" if period.endswith("m") else period
        return f"{self.count}/{period.removeprefix('1') if period in ('1s', '1min', '1h', '1d') else period}"
