"""Detects the encoding of a text file."""

from __future__ import annotations

import codecs
import io
import unicodedata
from pathlib import Path

from crmd.crm.tabular.rows import UnreadableFile

BLOCK_BYTES = 256 * 1024
SAMPLE_LINES = 2_000
"""So many lines with letters beyond ASCII decide; they are sought in the whole file."""
SAMPLE_LINE_BYTES = 2_000
_GUESS_BYTES = 32 * 1024
_MUCH_CHAOS = 0.1
_USUAL_MARKS = frozenset("€–—‘’“”„…«»°¡¿ªº\u00a0、。・「」（）")  # noqa: RUF001 - texts of any language have them
# Bytes that texts do not have, in more than one of fifty: then it is none.
_NO_TEXT = bytes(sorted({*range(32), 127} - set(b"\t\n\v\f\r\x1a\x1b")))
_NO_TEXT_SHARE = 0.02

# UTF-32 before UTF-16: the one's mark begins with the other's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# In the order in which they are preferred where several fit equally well.
_LEGACY = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp1258",
    "shift_jis",
    "gb18030",
    "big5",
    "euc_kr",
    "koi8_r",
    "mac_roman",
    "cp850",
)
# Which Windows code page a country's spreadsheets write: the letters alone do not tell Turkish from French.
_OF_REGION = {
    **dict.fromkeys(("PL", "CZ", "SK", "HU", "HR", "SI", "RO", "RS", "BA", "AL"), "cp1250"),
    **dict.fromkeys(("RU", "UA", "BY", "BG", "KZ", "KG", "MK"), "cp1251"),
    **dict.fromkeys(("GR", "CY"), "cp1253"),
    **dict.fromkeys(("TR", "AZ"), "cp1254"),
    "IL": "cp1255",
    **dict.fromkeys(("EG", "SA", "AE", "MA", "DZ", "TN", "IQ", "JO", "KW", "LB", "QA", "SY", "YE"), "cp1256"),
    **dict.fromkeys(("EE", "LV", "LT"), "cp1257"),
    "VN": "cp1258",
    "JP": "shift_jis",
    "CN": "gb18030",
    **dict.fromkeys(("TW", "HK"), "big5"),
    "KR": "euc_kr",
}


def detect(path: Path, region: str | None = None) -> str:
    """The codec of a text file: by its mark, by its zero bytes, by its letters; ASCII is UTF-8.

    `region` decides between code pages that fit equally well. Raises UnreadableFile for what is not text.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK_BYTES)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if b"\0" in start:
        return _wide(start)
    lines = _telling_lines(path)
    if not lines or sum(map(_is_utf8, lines)) * 2 >= len(lines):
        return "utf-8"  # with bad rows perhaps, which the report names
    return _legacy(lines, region)


def check_codec(name: str) -> str:
    """A codec's name as Python has it; raises ValueError for one that decodes no text."""
    try:
        io.TextIOWrapper(io.BytesIO(), name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise ValueError(f'"{name}" is not a text encoding; "utf-8", "cp1252" and "utf-16" are some') from None


def _wide(start: bytes) -> str:
    """UTF-16 without a mark: of mostly Latin text every second byte is zero."""
    even, odd = start[0::2].count(0) * 2 / len(start), start[1::2].count(0) * 2 / len(start)
    if odd > 0.3 and even < 0.1:
        return "utf-16-le"
    if even > 0.3 and odd < 0.1:
        return "utf-16-be"
    if len(start) - len(start.translate(None, _NO_TEXT)) > _NO_TEXT_SHARE * len(start):
        raise UnreadableFile("it is not a text file; give a CSV, XLSX or JSON Lines file")
    return "utf-8"  # a few stray zero bytes: their rows are refused


def _telling_lines(path: Path) -> list[bytes]:
    found: list[bytes] = []
    rest = b""
    with path.open("rb") as file:
        while len(found) < SAMPLE_LINES and (block := file.read(BLOCK_BYTES)):
            if block.isascii() and rest.isascii():
                rest = b""
                continue
            *lines, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
            rest = rest[-SAMPLE_LINE_BYTES:]
            found += [line[:SAMPLE_LINE_BYTES] for line in lines if not line.isascii()]
    if rest and not rest.isascii():
        found.append(rest)
    return found[:SAMPLE_LINES]


def _is_utf8(line: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line)  # a cut end is no fault
    except UnicodeDecodeError:
        return False
    return True


def _legacy(lines: list[bytes], region: str | None) -> str:
    """The code page: of those that fit the country's own, else the one that gives the most likely text."""
    import charset_normalizer

    sample = b"\n".join(line for line in lines if not _is_utf8(line))[:_GUESS_BYTES]
    preferred = _OF_REGION.get(region or "", "cp1252")
    found: list[tuple[tuple[float, ...], str]] = []
    for match in charset_normalizer.from_bytes(sample, cp_isolation=list(_LEGACY)):
        oddity = round(_oddity(str(match)), 1)
        for name in set(match.could_be_from_charset).intersection(_LEGACY):
            rank = (oddity, match.chaos > _MUCH_CHAOS, name != preferred, -match.coherence, _LEGACY.index(name))
            found.append((rank, name))
    return min(found, default=((), preferred))[1]


def _oddity(text: str) -> float:
    """How much of what is beyond ASCII is unlikely in names: symbols, accents on their own, capitals in words."""
    odd, count, before = 0.0, 0, ""
    for letter in text:
        if not letter.isascii():
            count += 1
            kind = unicodedata.category(letter)
            if kind[0] == "L":
                odd += kind == "Lu" and before.islower()
            elif kind[0] == "M":
                odd += 0.3  # some languages have them
            else:
                odd += letter not in _USUAL_MARKS
        before = letter
    return odd / count if count else 0.0
