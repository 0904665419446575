"""Removes secrets from whatever is about to be shown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"
CUT = "…"
MAX_DEPTH = 20
"""Values are shown down to this many levels."""
LONG_CHARS = 4_096
"""A text of a whole value that is longer is not searched for secrets: a search holds the interpreter meanwhile."""
_MARGIN_CHARS = 1_024
"""Read beyond a cut, so that what is masked there is seen whole; no rule looks farther back."""

_SENSITIVE = r"(?:password|passwd|token|secret|authorization|api[_-]?key|cookie)[\w-]{0,40}"
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
# A string that does not end goes to the end of the text, which may have been cut there.
_STRING = r"\"(?:[^\"\\]|\\[\s\S])*+(?:\"|\\?\Z)|'(?:[^'\\]|\\[\s\S])*+(?:'|\\?\Z)"

# Repeats in front of a word are bounded: unbounded ones take quadratic time on long lines.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # "token": "x" and 'token': 'x', as JSON and dicts show it
    (
        re.compile(
            rf"((?P<q>[\"'])[\w.-]{{0,40}}{_SENSITIVE}(?P=q)\s{{0,4}}:\s{{0,4}})(?:{_STRING}|[^\s,}}\]]+)", re.I
        ),
        rf"\g<1>{MASK}",
    ),
    # Authorization: Basic x, to the end of the line as a cookie may hold anything
    (re.compile(r"\b(authorization|cookie|x-api-key)(\s{0,4}:\s{0,4})[^\r\n]+", re.I), rf"\1\2{MASK}"),
    # access_token=x, in query strings and keyword arguments
    (re.compile(rf"({_SENSITIVE}\s?=\s?)(?:{_STRING}|(?:Bearer|Basic)\s+\S+|[^\s,&;)}}\]]+)", re.I), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    # redis://user:password@host; to the last @, as a password may hold one unescaped
    (re.compile(r"(://[^\s/@:\"']{0,128}):[^\s\"']{0,512}@"), rf"\1:{MASK}@"),
)


def redact(text: str) -> str:
    """The text without passwords, tokens, cookies and credentials of URLs."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact_start(text: str, limit: int) -> str:
    """Up to `limit` characters of the text, masked; costs no more than that, however long the text is."""
    if len(text) <= limit:
        return redact(text)[:limit]
    seen = redact(text[: limit + _MARGIN_CHARS])
    whole = len(text) <= limit + _MARGIN_CHARS
    return seen[: limit if whole else max(0, min(limit, len(seen) - _MARGIN_CHARS))] + CUT


def redact_repr(value: Any, limit: int) -> str:
    """Up to `limit` characters of the value as Python writes it, masked; costs no more, however large it is."""
    if isinstance(value, str):
        return redact_start(value, limit)
    text = repr(_Start(limit).of(value, 0))
    return text if len(text) <= limit else f"{text[:limit]}{CUT}"


def redact_value(value: Any, longest: float = LONG_CHARS) -> Any:
    """A whole value with secret fields masked, and secrets in texts of up to `longest` characters."""
    if isinstance(value, str):
        return redact(value) if len(value) <= longest else value
    if isinstance(value, Mapping):
        return {
            str(name): MASK if is_secret_name(str(name)) else redact_value(item, longest)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_value(item, longest) for item in value]
    return value


def is_secret_name(name: str) -> bool:
    """Whether a field of that name holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with secret ones masked, nested ones and texts too."""
    masked: dict[str, Any] = redact_value(fields, math.inf)
    return masked


class _Start:
    """Copies the start of a value, secrets masked."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def of(self, value: Any, depth: int) -> Any:
        """The part of the value that is within the limit."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return self._list(value, depth)
        self._left -= value.bit_length() // 3 if isinstance(value, int) else 4
        return value if self._left >= 0 else _Cut()

    def _text(self, text: str) -> str:
        start = redact_start(text, max(0, self._left))
        self._left -= len(start) + 2
        return start

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        found: dict[Any, Any] = {}
        for name, item in value.items():
            if self._left <= 0 or depth >= MAX_DEPTH:
                found[_Cut()] = _Cut()
                break
            own = str(name)
            found[self._text(own)] = self._masked() if is_secret_name(own) else self.of(item, depth + 1)
        return found

    def _list(self, value: Sequence[Any], depth: int) -> list[Any]:
        found: list[Any] = []
        for item in value:
            if self._left <= 0 or depth >= MAX_DEPTH:
                found.append(_Cut())
                break
            found.append(self.of(item, depth + 1))
            self._left -= 2
        return found

    def _masked(self) -> str:
        self._left -= len(MASK)
        return MASK


class _Cut:
    def __repr__(self) -> str:
        return CUT
