"""The report of an import: a CSV file with each rejected row and why."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

from crmd.crm.imports.rows import Rejected
from crmd.crm.tabular.defuse import defuse

MEMORY_BYTES = 256 * 1024
HEADER = ("row", "column", "value", "reason")


class Report:
    """Rejected rows, on disk once they are many. Used by one thread at a time."""

    def __init__(self) -> None:
        # A byte order mark, as spreadsheets want it.
        self._file: Any = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
            MEMORY_BYTES, "w+", encoding="utf-8-sig", errors="replace", newline=""
        )
        self._writer = csv.writer(self._file)
        self._writer.writerow(HEADER)
        self.count = 0

    def add(self, rejected: Rejected) -> None:
        """Notes one row. What could be a formula is defused."""
        self.count += 1
        self._writer.writerow(
            (rejected.number, defuse(rejected.column), defuse(rejected.value), defuse(rejected.reason))
        )

    def save(self, path: Path) -> None:
        """Writes the report there."""
        self._file.flush()
        self._file.seek(0)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write("\ufeff")
            shutil.copyfileobj(self._file, file)

    def close(self) -> None:
        """Frees memory and disk; idempotent."""
        self._file.close()
