"""Takes secrets out of what is about to be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_SENSITIVE = r"(?:password|passwd|token|secret|authorization|api[_-]?key|cookie)[\w-]{0,40}"
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"

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


def is_secret_name(name: str) -> bool:
    """Whether a field of that name holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with secret ones masked, nested ones and texts too."""
    return {name: MASK if is_secret_name(name) else _redact_value(value) for name, value in fields.items()}


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return redact_fields({str(name): item for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [_redact_value(item) for item in value]
    return value
