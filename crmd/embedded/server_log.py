"""The log of the embedded store's server: kept small, and searched for the reason of a failed start."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from crmd.errors import CrmdError, PortTaken, StoreFull, StoreUnavailable, StoreUnusable

ROTATE_BYTES = 4 * 1024 * 1024
READ_BACK_BYTES = 16 * 1024
MIN_FREE_BYTES = 1024 * 1024

# 1234:M 24 Nov 2026 04:31:48.400 * Ready to accept connections
_LINE = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [.*#-] (.*)$")
_DAMAGE = (
    "Bad file format reading the append only file",
    "Unexpected end of file reading the append only file",
    "Unrecoverable error reading the append only file",
    "Unable to obtain the AOF file",
    "Short read or OOM loading DB",
    "Internal error in RDB",
    "Wrong signature trying to load DB",
    "Fatal error loading the DB",
    "AOF manifest",
)


class DataDamaged(StoreUnusable):
    """The server does not load its append-only file, or what it began from; `complaint` is what it said."""

    def __init__(self, log: Path, complaint: str) -> None:
        super().__init__(f"the store's data in {log.parent} are damaged: {complaint}; its log is {log}")
        self.complaint = complaint


def rotate(log: Path) -> int:
    """Puts a log that has grown aside, over the one before it; returns the log's size in bytes."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size < ROTATE_BYTES:
        return size
    log.replace(log.with_name(f"{log.name}.1"))
    return 0


def check_room(folder: Path) -> None:
    """Raises StoreFull where the disk has no room for even a few writes."""
    usage = shutil.disk_usage(folder)
    if usage.total > 0 and usage.free < MIN_FREE_BYTES:
        raise StoreFull(f"the disk of the store's folder {folder} is full; free some space on it")


def explain_exit(log: Path, since: int, how: str, listen: str | None) -> CrmdError:
    """Why a server ended before it was ready, by what it wrote to its log since that many bytes."""
    lines = _messages(log, since)
    text = "\n".join(lines)
    where = f"; its log is {log}"
    if "Address already in use" in text and listen:
        return PortTaken(f"redis.listen: {listen} is in use; stop what listens there, or choose another port")
    if "No space left on device" in text:
        return StoreFull(f"the disk of the store's folder {log.parent} is full; free some space on it{where}")
    if "Can't handle RDB format version" in text:
        return StoreUnusable(
            f"the store's data in {log.parent} were written by a newer server than redis.server names; "
            f"use that one again{where}"
        )
    damage = next((line for line in lines if any(sign in line for sign in _DAMAGE)), None)
    if damage is not None:
        return DataDamaged(log, damage)
    if "FATAL CONFIG FILE ERROR" in text:
        return StoreUnusable(f"the store's server refuses its configuration: {lines[-1]}{where}")
    last = f": {lines[-1]}" if lines else ""
    return StoreUnavailable(f"the store's server {how} while starting{last}{where}")


def _messages(log: Path, since: int) -> list[str]:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(since, size - READ_BACK_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [_LINE.sub(r"\1", line).strip() for line in lines if line.strip()]
