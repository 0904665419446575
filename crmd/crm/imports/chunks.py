"""What an import takes of a file, chunk by chunk: each number once; the other rows go into the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from crmd.crm.imports.report import Report
from crmd.crm.imports.rows import Found, OptOut, Rejected
from crmd.crm.imports.seen import Seen
from crmd.crm.imports.source import ImportSource


@dataclass(slots=True)
class Chunk:
    """Some rows of the file."""

    found: list[Found] = field(default_factory=list)
    opt_outs: list[OptOut] = field(default_factory=list)
    """What rejected rows say all the same."""
    rows: int = 0
    rejected: int = 0
    broken: int = 0
    """Rejected rows that are not contacts at all, in contrast to those whose number an earlier row has."""
    last: int = 0
    """The number of the last row."""
    fraction: float = 0.0
    """How much of the file was read with it, 0 to 1."""


class ImportChunks:
    """The chunks of a source. All is called in one thread, as it may take long."""

    def __init__(self, source: ImportSource) -> None:
        self._source = source
        self._seen = Seen()
        self.report = Report()

    def next_chunk(self, size: int) -> Chunk | None:
        """The next rows; the bad ones are in the report. None at the end. Raises ValueError."""
        rows = self._source.next_rows(size)
        if rows is None:
            return None
        chunk = Chunk(rows=len(rows.results), last=rows.last, fraction=rows.fraction)
        for checked in rows.results:
            if isinstance(checked, Rejected):
                chunk.broken += 1
            result = self._once(checked) if isinstance(checked, Found) else checked
            if isinstance(result, Found):
                chunk.found.append(result)
                continue
            chunk.rejected += 1
            self.report.add(result)
            if result.opt_out is not None:
                chunk.opt_outs.append(result.opt_out)
        return chunk

    def close(self) -> None:
        """Closes everything, the source included; idempotent."""
        self._source.close()
        self._seen.close()
        self.report.close()

    def _once(self, found: Found) -> Found | Rejected:
        earlier = self._seen.first_row(found.phone, found.number)
        if earlier is None:
            return found
        opt_out = None if found.opted_out_at is None else OptOut(found.phone, found.opted_out_at)
        return Rejected(found.number, "", found.phone, f"has the same number as row {earlier}", opt_out)


def rows_after(chunk: Chunk, number: int) -> Iterator[Found]:
    """The contacts of rows after the one of that number."""
    return (found for found in chunk.found if found.number > number)
