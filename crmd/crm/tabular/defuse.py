"""Formula injection: a text that a spreadsheet would run is written so that it does not, and read back as it was.

As OWASP advises, a text that begins with `=`, `+`, `-`, `@`, tab, a line end or the full-width forms of these gets
an apostrophe in front. Plain numbers do not, as they are not formulas: +491701234567 and -5 stay as they are, so
that whoever reads the file gets a phone number and not a text with an apostrophe.
"""

from __future__ import annotations

import re

# Apostrophes before such a beginning get one more, so that reading can take exactly one away.
_DANGEROUS = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-][0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
# What a spreadsheet takes for a formula: `=…`, `+SUM(…)`, `@cmd|…`.
_FORMULA = re.compile(r"\s*(=|[+\-@]\s*[A-Za-z_.][\w.]*\s*[(|!])")
_QUOTED = re.compile(r'="([^"]*)"')


def defuse(text: str) -> str:
    """The text as it is written into a CSV cell."""
    if not text or not _DANGEROUS.match(text) or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def undefuse(text: str) -> str:
    """What `defuse` was given; also what `="0170"` means, by which other programs keep a text a text."""
    if text.startswith("'") and _DEFUSED.match(text):
        return text[1:]
    quoted = _QUOTED.fullmatch(text)
    return quoted[1] if quoted else text


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute the text."""
    return _FORMULA.match(text) is not None
