"""Which phone numbers a file had already, and where: on disk, so that a file of any length takes no memory."""

from __future__ import annotations

import sqlite3


class Seen:
    """Numbers of one file. Used by one thread at a time, and opened by its first use."""

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None

    def first_row(self, phone: str, number: int) -> int | None:
        """The row that had this E.164 number before; None for a new one, which is noted with its row."""
        db = self._db or self._open()
        digits = int(phone[1:])
        if db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digits, number)).rowcount:
            return None
        (row,) = db.execute("SELECT number FROM seen WHERE digits = ?", (digits,)).fetchone()
        return int(row)

    def close(self) -> None:
        """Frees the disk; idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _open(self) -> sqlite3.Connection:
        # an empty name is a file that only this connection knows, and that goes with it
        db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("CREATE TABLE seen (digits INTEGER PRIMARY KEY, number INTEGER NOT NULL)")
        db.execute("BEGIN")
        self._db = db
        return db
