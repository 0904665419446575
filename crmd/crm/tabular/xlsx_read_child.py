"""A separate program that prints an XLSX file's rows as JSON Lines: `python xlsx_read_child.py PATH [SHEET]`.

The reader holds a whole sheet in memory, and what it makes of a hostile file nobody knows. Here both end with the
process, which may take this much memory and no more. It imports nothing of crmd.

The first line is {"sheet", "rows"}, or {"error"}; each further one [number of the row, [cells]].
"""

from __future__ import annotations

import json
import resource
import sys
import zipfile
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

MAX_MEMORY_BYTES = 2 * 1024**3
MAX_CPU_SECONDS = 600
MAX_UNPACKED_BYTES = 1024**3
"""A million rows of eight cells are half of it."""
MAX_CELLS = 20_000_000
MAX_COLUMNS = 500
MAX_CELL_CHARS = 32_767


class Refused(Exception):
    """Why the file is not read."""


def main(path: str, sheet_name: str | None = None) -> int:
    """Prints the rows of a sheet as JSON lines, or why the file is refused; the exit status."""
    _bound()
    try:
        _check_package(path)
        _print_rows(path, sheet_name)
    except Refused as error:
        _say({"error": str(error)})
        return 1
    except BrokenPipeError:  # who reads has enough
        sys.stderr.close()
        return 1
    return 0


def _bound() -> None:
    """Limits memory and time; where a sandbox forbids that, the kernel ends this process before any other one."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))


def _check_package(path: str) -> None:
    try:
        with zipfile.ZipFile(path) as package:
            entries = package.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Refused(f"it is damaged: {error}; save it again as XLSX") from None
    if not any(entry.filename == "xl/workbook.xml" for entry in entries):
        raise Refused("it is not an XLSX workbook; save it as XLSX or CSV")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise Refused("unpacked it is larger than 1 GiB; save it as CSV")


def _print_rows(path: str, sheet_name: str | None) -> None:
    import python_calamine

    try:
        with python_calamine.load_workbook(path) as workbook:
            sheet = _sheet(workbook, sheet_name)
            _print_sheet(sheet)
    except BrokenPipeError:
        raise
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        raise Refused(f"it cannot be read as XLSX: {error}") from None


def _sheet(workbook: Any, name: str | None) -> Any:
    """The sheet of that name, else the first visible one that has cells."""
    if name is not None:
        if name not in workbook.sheet_names:
            raise Refused(f"it has no sheet {name!r}; it has {', '.join(map(repr, workbook.sheet_names[:20]))}")
        return workbook.get_sheet_by_name(name)
    sheets = [one.name for one in workbook.sheets_metadata if _is_visible_sheet(one)]
    for candidate in sheets:
        sheet = workbook.get_sheet_by_name(candidate)
        if sheet.height:
            return sheet
    raise Refused("it has no visible sheet with cells")


def _is_visible_sheet(metadata: Any) -> bool:
    return str(metadata.typ).endswith("WorkSheet") and str(metadata.visible).endswith("Visible")


def _print_sheet(sheet: Any) -> None:
    rows = sheet.end[0] + 1
    if rows * sheet.width > MAX_CELLS:
        raise Refused(f"the sheet {sheet.name!r} spans more than {MAX_CELLS:,} cells; save what is needed as CSV")
    if sheet.width > MAX_COLUMNS:
        raise Refused(f"the sheet {sheet.name!r} has {sheet.width:,} columns; at most {MAX_COLUMNS} are read")
    _say({"sheet": sheet.name, "rows": rows})
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if any(cell != "" for cell in cells):
            _say([number, [_plain(cell) for cell in cells]])


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")


def _plain(cell: Any) -> Any:
    """A cell as JSON has it. Whole numbers are not `5.0`, times are ISO 8601."""
    if isinstance(cell, str):
        return cell if len(cell) <= MAX_CELL_CHARS else cell[: MAX_CELL_CHARS + 1]  # refused later, and named
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else cell
    if isinstance(cell, datetime) and (cell.hour, cell.minute, cell.second, cell.microsecond) == (0, 0, 0, 0):
        return cell.date().isoformat()
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return cell


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
