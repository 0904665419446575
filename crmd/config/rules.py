"""How one value of the configuration is read, written back and described.

A rule stands in a field's `Annotated` metadata and makes every message its own, so that a mistake reads the same
wherever the value came from.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from crmd.engine.durations import Rate, format_duration, parse_duration
from crmd.formatting import is_clean, show

RATE_COUNT_MAX = 1_000_000
RATE_PERIOD_MAX_SECONDS = 31 * 86400.0


class Rule(ABC):
    """One kind of value."""

    @abstractmethod
    def describe(self) -> str:
        """The type, as the reference page names it."""

    @abstractmethod
    def read(self, value: object) -> Any:
        """The value as the program uses it; raises ValueError that says what was expected."""

    def write(self, value: Any) -> object:
        """The value as `config.toml` has it."""
        return value

    def from_text(self, text: str) -> object:
        """What TOML would have had for the text of an environment variable."""
        return text

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number between two bounds, both allowed."""

    least: int
    most: int

    def describe(self) -> str:
        return f"whole number, {self.least} to {self.most}"

    def read(self, value: object) -> int:
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValueError(f"must be a whole number from {self.least} to {self.most}, not {show(value)}")
        return value

    def from_text(self, text: str) -> object:
        return whole_from_text(text)


class Share(Rule):
    """A share of a whole, 0 to 1."""

    def describe(self) -> str:
        return "number, 0 to 1"

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"must be a number from 0 to 1, not {show(value)}")
        return float(value)

    def from_text(self, text: str) -> object:
        return float(text) if re.fullmatch(r"\s*\d{0,3}\.?\d{1,9}\s*", text, re.ASCII) else text


class Flag(Rule):
    """true or false."""

    _YES: ClassVar = ("true", "1", "yes", "on")
    _NO: ClassVar = ("false", "0", "no", "off")

    def describe(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {show(value)}")
        return value

    def from_text(self, text: str) -> object:
        word = text.strip().lower()
        return word in self._YES if word in self._YES + self._NO else text


class Choice(Rule):
    """One of a few words."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def describe(self) -> str:
        return " or ".join(f'"{option}"' for option in self.options)

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value.strip().lower() not in self.options:
            raise ValueError(f"must be {self.describe()}, not {show(value)}")
        return value.strip().lower()


class Text(Rule):
    """Text of a given form; `what` completes the sentence "must be …", `shown=False` keeps bad text out of it."""

    def __init__(self, what: str, pattern: str = r".+", *, empty: bool = False, shown: bool = True) -> None:
        self.what, self.empty, self.shown = what, empty, shown
        self._pattern = re.compile(pattern, re.ASCII)

    def describe(self) -> str:
        return "text"

    def read(self, value: object) -> str:
        if isinstance(value, str) and not value and self.empty:
            return value
        if not isinstance(value, str) or not self._pattern.fullmatch(value) or not is_clean(value):
            raise ValueError(f"must be {self.what}" + (f", not {show(value)}" if self.shown else ""))
        return value


@dataclass(frozen=True)
class Duration(Rule):
    """A duration in seconds between two bounds; with `none` also `"none"`, which is None."""

    least: str
    most: str
    none: bool = False

    def describe(self) -> str:
        return f'duration, "{self.least}" to "{self.most}"' + (' or "none"' if self.none else "")

    def read(self, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f'must be a duration such as "30s", not {show(value)}')
        # parse_duration answers a bare number with the two ways to read it.
        seconds = parse_duration(cast(str, value))
        if seconds is None and self.none:
            return None
        if seconds is None:
            raise ValueError(
                f'must be a duration from "{self.least}" to "{self.most}"; "none" is not possible here'
            )
        if not (parse_duration(self.least) or 0) <= seconds <= (parse_duration(self.most) or math.inf):
            aside = ', or "none"' if self.none else ""
            raise ValueError(f'must be from "{self.least}" to "{self.most}"{aside}, not {show(value)}')
        return seconds

    def write(self, value: Any) -> object:
        # None where "none" is not possible is a key that was not given.
        return None if value is None and not self.none else format_duration(value)


@dataclass(frozen=True)
class RateRule(Rule):
    """A rate such as `"20/min"`; with `none` also `"none"`, which is None. The bounds are counts a second."""

    none: bool = False
    least: float = 0.0
    most: float = float("inf")

    def describe(self) -> str:
        if self.least:
            return f'rate, "{self.least:g}/s" to "{self.most:g}/s"'
        return 'rate, such as "20/min"' + (', or "none"' if self.none else "")

    def read(self, value: object) -> Rate | None:
        if isinstance(value, Rate):
            return value
        if value == "none" and self.none:
            return None
        if not isinstance(value, str):
            raise ValueError(f'must be a rate such as "20/min", not {show(value)}')
        rate = Rate.parse(value)
        if rate.count > RATE_COUNT_MAX or rate.period_seconds > RATE_PERIOD_MAX_SECONDS:
            raise ValueError(f"must be at most {RATE_COUNT_MAX} in at most 31d, not {show(value)}")
        if not self.least <= rate.per_second <= self.most:
            raise ValueError(f'must be "{self.least:g}/s" to "{self.most:g}/s", not {show(value)}')
        return rate

    def write(self, value: Any) -> str:
        return "none" if value is None else str(value)


class ListOf(Rule):
    """A list without duplicates, whose items the field's own type checks."""

    def __init__(self, what: str) -> None:
        self.what = what

    def describe(self) -> str:
        return f"list of {self.what}"

    def read(self, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of {self.what}, not {show(value)}")
        for index, item in enumerate(value):
            if item in value[:index]:
                raise ValueError(f"has {show(item)} twice")
        return value

    def from_text(self, text: str) -> object:
        """A JSON or TOML list, or words with commas between."""
        if text.lstrip().startswith(("[", "{")):
            return structure_from_text(text)
        return [word.strip() for word in text.split(",") if word.strip()]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))


class Payload(Rule):
    """A table of the user's own, of what JSON can hold."""

    def describe(self) -> str:
        return "table"

    def read(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table, not {show(value)}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("holds what JSON cannot, such as a date, inf or nan; write it as text") from None
        return value

    def from_text(self, text: str) -> object:
        return structure_from_text(text)


class FolderPath(Rule):
    """A path; empty is `Path()`."""

    def describe(self) -> str:
        return "path"

    def read(self, value: object) -> Path:
        if isinstance(value, Path):
            return value
        if not isinstance(value, str) or not is_clean(value):
            raise ValueError(f"must be a path, not {show(value)}")
        return Path(value)

    def write(self, value: Any) -> str:
        return "" if value == Path() else str(value)


def whole_from_text(text: str) -> object:
    """The number that the text of an environment variable is, or the text."""
    return int(text) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII) else text


def structure_from_text(text: str) -> object:
    """The JSON or TOML value that the text of an environment variable is, or the text."""
    try:
        value: object = json.loads(text)
        # JSON's escapes can make what is no text: lone surrogates.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        pass
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text
