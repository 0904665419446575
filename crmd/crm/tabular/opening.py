"""Opens a table file: detects its format and picks the reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crmd.crm.tabular.encodings import check_codec, detect
from crmd.crm.tabular.rows import Source, UnreadableFile
from crmd.crm.tabular.text_sources import CsvSource, JsonLinesSource
from crmd.crm.tabular.xlsx_source import XlsxReaders

Format = Literal["csv", "xlsx", "jsonl"]

_START_BYTES = 4096
# What people take for a table and we do not read, by its first bytes.
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "it is an old Excel file (XLS) or has a password; save it as XLSX without one"),
    (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    (b"%PDF", "it is a PDF; export CSV or XLSX instead"),
    (b"SQLite format 3", "it is an SQLite database; export CSV instead"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read; None is found out."""

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    region: str | None = None
    """Country code, a hint for the encoding."""


def open_source(path: Path, how: Reading, is_known: Callable[[str], bool], xlsx: XlsxReaders) -> Source:
    """The rows of a file. `is_known`: whether a text is the name of a column.

    Raises UnreadableFile, OSError, TooManyReaders.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if not start:
        raise UnreadableFile("it is empty")
    for magic, reason in _FOREIGN:
        if start.startswith(magic):
            raise UnreadableFile(reason)
    is_package = start.startswith(b"PK\x03\x04")
    if how.format == "xlsx" or (how.format is None and is_package):
        return xlsx.open(path, how.sheet)
    if is_package:
        raise UnreadableFile(f"it is not {how.format} but an XLSX workbook or a ZIP archive")
    try:
        encoding = check_codec(how.encoding) if how.encoding else detect(path, how.region)
    except ValueError as error:
        raise UnreadableFile(str(error)) from None
    text = start.decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if how.format == "jsonl" or (how.format is None and text.startswith("{")):
        return JsonLinesSource(path, encoding)
    if how.format is None and text.startswith(("[{", "[\n", "[\r\n", "<")):
        raise UnreadableFile("it is neither CSV, XLSX nor JSON Lines; JSON Lines has one object on each line")
    return CsvSource(path, encoding, how.delimiter, is_known)
