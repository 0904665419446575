"""A separate program that writes an XLSX file: `python xlsx_write_child.py PATH SHEET TEMPORARY_FOLDER`.

Writing XLSX is slow, ten microseconds for each cell: in a thread it would hold up everything else in the daemon,
and could not be stopped. It imports nothing of crmd.

It reads JSON Lines: the columns' names, the cells of each row, and null at the end. Without the null who sends has
died, and there is nothing to finish. It prints {"error"} where it fails.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

MAX_CELL_CHARS = 32_767
_ALL_CELLS = "A1:XFD1048576"


def main(path: str, sheet_name: str, folder: str) -> int:
    """Writes what comes from standard input. Texts stay texts: never formulas, links or numbers."""
    import xlsxwriter

    options = {"constant_memory": True, "tmpdir": folder}
    try:
        book = xlsxwriter.Workbook(path, options)
        sheet = book.add_worksheet(sheet_name)
        sheet.freeze_panes(1, 0)
        sheet.ignore_errors({"number_stored_as_text": _ALL_CELLS})
        bold = book.add_format({"bold": True})
        for number, line in enumerate(sys.stdin.buffer):
            cells = json.loads(line)
            if cells is None:
                book.close()
                return 0
            for column, cell in enumerate(cells):
                _write(sheet, number, column, cell, bold if number == 0 else None)
    except (OSError, xlsxwriter.exceptions.XlsxWriterException) as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 1


def _write(sheet: Any, row: int, column: int, cell: Any, style: Any) -> None:
    if isinstance(cell, str):
        text = cell if len(cell) <= MAX_CELL_CHARS else cell[: MAX_CELL_CHARS - 1] + "…"
        sheet.write_string(row, column, text, style)
    elif isinstance(cell, bool):
        sheet.write_boolean(row, column, cell)
    elif cell is not None:
        sheet.write_number(row, column, cell)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
