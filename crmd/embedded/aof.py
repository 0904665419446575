"""The append-only file of the embedded store: mend a torn tail after an unclean end, never touch damage.

A power loss can leave the last command half written, or zeros after it: that tail was never whole and is cut off.
Anything else that cannot be read is damage: it is copied aside and left as it is, for a person to decide.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from crmd.component import PeriodicThread
from crmd.errors import ConfigError, Problem, StoreUnusable
from crmd.telemetry.throttle import Throttle

MANIFEST = Path("appendonlydir", "appendonly.aof.manifest")
KEEP_FREE_BYTES = 64 * 1024 * 1024

_NUMBER_MAX_CHARS = 22
_MANIFEST_LINE = re.compile(r"file (?P<name>\S+) seq \d+ type (?P<type>[bhi])\b")
_HALF_NUMBER = {marker: re.compile(rb"%b\d{0,20}\r?" % re.escape(marker)) for marker in (b"*", b"$")}
_NEXT_COMMAND = re.compile(rb"\r\n\*\d+\r\n\$\d+\r\n")


@dataclass(frozen=True, slots=True)
class Scan:
    """What a reading of one file found."""

    good_bytes: int
    """The commands up to here are whole."""
    size_bytes: int
    torn: bool
    """What follows is the beginning of one command, or zeros."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with the file."""
        return self.good_bytes == self.size_bytes


class _Torn(Exception):
    """The file ends inside a command."""


class _Damaged(Exception):
    """The bytes are no command."""


def mend(data: Path, keep_tail_in: Path, complaint: str) -> int:
    """Cuts a torn tail off the newest append-only file and returns its length in bytes.

    The tail is kept in the given file. Raises StoreUnusable, and changes nothing, where more than a tail is lost;
    `complaint` is what the server said.
    """
    path = newest_file(data)
    scan = scan_file(path) if path else None
    if path is None or scan is None or scan.whole:
        raise damaged(data, f"the server says: {complaint}", None)
    if not scan.torn:
        found = f"{path.name} is good up to byte {scan.good_bytes} of {scan.size_bytes}"
        raise damaged(data, found, f'truncate -s {scan.good_bytes} "{path}"', "go on without what follows")
    with path.open("r+b") as file:
        file.seek(scan.good_bytes)
        keep_tail_in.write_bytes(file.read())
        file.truncate(scan.good_bytes)
        os.fsync(file.fileno())
    return scan.size_bytes - scan.good_bytes


def newest_file(data: Path) -> Path | None:
    """The file that the server appends to; None where the manifest names none that exists."""
    try:
        manifest = (data / MANIFEST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    names = [match["name"] for match in _MANIFEST_LINE.finditer(manifest) if match["type"] == "i"]
    path = data / MANIFEST.parent / names[-1].strip('"') if names else None
    return path if path is not None and path.is_file() else None


def scan_file(path: Path) -> Scan:
    """Reads a file of commands to its end, or to the first that is not whole."""
    size = path.stat().st_size
    if size == 0:
        return Scan(0, 0, False)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _scan(data, size)


def keep_copy(data: Path) -> str:
    """Copies the damaged data aside, once for each state of them, and says in words what it did."""
    candidates = (newest_file(data), data / MANIFEST, data / MANIFEST.parent, data)
    try:
        info = next(path for path in candidates if path is not None and path.exists()).stat()
        copy = data.with_name(f"{data.name}.damaged-{int(info.st_mtime)}-{info.st_size}")
        if copy.exists():
            return f"a copy is in {copy}"
        size = sum(entry.stat().st_size for entry in data.rglob("*") if entry.is_file())
        if shutil.disk_usage(data).free < size + KEEP_FREE_BYTES:
            return "there is no room for a copy: make one elsewhere first"
        draft = copy.with_name(f".{copy.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(data, draft)
        draft.rename(copy)
    except OSError as error:
        return f"a copy could not be made ({error.strerror}): make one first"
    return f"a copy is in {copy}"


def damaged(data: Path, found: str, cure: str | None, aim: str = "list them again") -> StoreUnusable:
    """The error for data that a person has to look at, with the command that `cure`s them where there is one."""
    after = f"; to {aim}, run: {cure}" if cure else "; put a backup in its place"
    return StoreUnusable(
        f"the store's data in {data} are damaged: {found}; nothing was changed and {keep_copy(data)}{after}"
    )


def _scan(data: mmap.mmap, size: int) -> Scan:
    end = _end_of_content(data, size)
    good = position = 0
    in_transaction = False
    try:
        while position < end:
            name, position = _read_command(data, position, end)
            if name == b"MULTI":
                in_transaction = True
            elif name == b"EXEC":
                in_transaction = False
            if not in_transaction:
                good = position
    except _Torn:
        return Scan(good, size, True)
    except _Damaged:
        return Scan(good, size, False)
    return Scan(good, size, good < size)


def _end_of_content(data: mmap.mmap, size: int) -> int:
    # File systems may leave zeros where a write was under way; a whole command ends with a line feed.
    step = 65536
    while size > 0:
        start = max(0, size - step)
        content = data[start:size].rstrip(b"\0")
        if content:
            return start + len(content)
        size = start
    return 0


def _read_command(data: mmap.mmap, position: int, end: int) -> tuple[bytes, int]:
    if data[position : position + 1] == b"#":  # an annotation, one line
        return b"", _line_end(data, position, end) + 2
    count, position = _read_number(data, position, end, b"*")
    name = b""
    for index in range(count):
        length, position = _read_number(data, position, end, b"$")
        if index == 0:
            name = data[position : min(position + length, position + 16)].upper()
        position = _skip_argument(data, position, length, end)
    return name, position


def _read_number(data: mmap.mmap, position: int, end: int, marker: bytes) -> tuple[int, int]:
    stop = data.find(b"\r\n", position, min(end, position + _NUMBER_MAX_CHARS + 2))
    if stop == -1:
        rest = data[position : min(end, position + _NUMBER_MAX_CHARS + 2)]
        half = not rest or _HALF_NUMBER[marker].fullmatch(rest)
        raise _Torn if half else _Damaged
    text = data[position:stop]
    if text[:1] != marker or not text[1:].isdigit():
        raise _Damaged
    return int(text[1:]), stop + 2


def _skip_argument(data: mmap.mmap, position: int, length: int, end: int) -> int:
    after = position + length + 2
    if after > end:
        # The end came too early. Where whole commands follow, it is the length that is wrong.
        raise _Damaged if _NEXT_COMMAND.search(data, position, end) else _Torn
    if data[after - 2 : after] != b"\r\n":
        raise _Damaged
    return after


def _line_end(data: mmap.mmap, position: int, end: int) -> int:
    stop = data.find(b"\r\n", position, end)
    if stop == -1:
        raise _Torn
    return stop


# Before a server opens the files: all there, all listed, all accessible. A server that finds no manifest begins
# afresh and says nothing, and appends to what was there before; one whose manifest lacks a file goes on without
# it. Both lose data that a person could still have saved.


_FOLDER = MANIFEST.parent
_NAME = re.compile(r"appendonly\.aof\.(?P<seq>\d+)\.(?P<kind>base|incr)\.(?:rdb|aof)")
_DRAFT = "temp-"
"""What a server begins the names of files with that are not whole yet."""
EMPTY_BASE_MAX_BYTES = 256
"""A base file without jobs is smaller: a first start that is cut off leaves one, and no manifest yet."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    seq: int
    kind: str
    size: int

    @property
    def line(self) -> str:
        """Its line in a manifest."""
        return f"file {self.name} seq {self.seq} type {self.kind[0]}"


def check_listed(data: Path) -> None:
    """Raises StoreUnusable, and changes nothing, where the manifest is lost or does not name all that is there."""
    folder, manifest = data / _FOLDER, data / MANIFEST
    if not folder.is_dir():
        _check_nothing_else(data)
        return
    files = _files_in(folder)
    if not manifest.is_file():
        if any(one.size > (0 if one.kind == "incr" else EMPTY_BASE_MAX_BYTES) for one in files):
            raise damaged(data, f"{manifest.name}, which lists its files, is missing", _rebuild(files, manifest))
        return
    text = manifest.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise damaged(data, f"{manifest.name}, which lists its files, is empty", _rebuild(files, manifest))
    unlisted = [one.name for one in _unlisted(files, text)]
    if unlisted:
        found = f"{manifest.name} does not list {', '.join(unlisted)}"
        raise damaged(data, found, _rebuild(files, manifest))


def check_accessible(data: Path, *others: Path) -> None:
    """Raises ConfigError for the first folder or file that this user may not read and write."""
    for folder in (data, data / _FOLDER):  # a folder before what is in it
        _check_access(folder, data)
    for path in sorted((data / _FOLDER).iterdir()) if (data / _FOLDER).is_dir() else []:
        _check_access(path, data)
    for path in others:
        _check_access(path, path)


def _check_access(path: Path, whole: Path) -> None:
    if not path.exists() or os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)):
        return
    info, user = path.stat(), os.geteuid()
    if info.st_uid == user:
        reason = "cannot be read and written; correct its mode, or mount its file system for writing"
    else:
        mode = f"{stat.S_IMODE(info.st_mode):04o}"
        reason = (
            f"belongs to user {info.st_uid} (mode {mode}), and user {user}, as whom this daemon runs, cannot read "
            f'and write it; as root, run: chown -R {user} "{whole}"'
        )
    raise ConfigError([Problem(str(path), "daemon.state_dir", reason)])


def _check_nothing_else(data: Path) -> None:
    """A folder in which a server has worked, and whose data are gone."""
    there = sorted(path.name for path in data.iterdir() if not path.name.startswith(_DRAFT))
    if there:
        raise damaged(data, f"the folder {_FOLDER} is missing; there is: {', '.join(there[:5])}", None)


def _files_in(folder: Path) -> list[_File]:
    found = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append(_File(path.name, int(match["seq"]), match["kind"], path.stat().st_size))
    return sorted(found, key=lambda one: (one.kind, one.seq))


def _unlisted(files: list[_File], manifest: str) -> list[_File]:
    """Files with data that are not named, though no rewrite that was cut off explains it.

    A rewrite begins an empty file before it is named, and puts its base in place before that is named.
    """
    bases = [one.seq for one in files if one.kind == "base" and one.name in manifest]
    growing = [one.seq for one in files if one.kind == "incr" and one.name in manifest]
    unnamed = [one for one in files if one.name not in manifest]
    return [
        one
        for one in unnamed
        if (one.kind == "incr" and one.size and (not growing or one.seq > min(growing)))
        or (one.kind == "base" and one.size > EMPTY_BASE_MAX_BYTES and not bases)
    ]


def _rebuild(files: list[_File], manifest: Path) -> str | None:
    """The command that lists the files again, where it is plain which belong together."""
    bases = [one for one in files if one.kind == "base"]
    growing = [one for one in files if one.kind == "incr"]
    if len(bases) != 1 or not growing:
        return None
    lines = "".join(f"{one.line}\\n" for one in [*bases, *growing])
    return f"printf '{lines}' > \"{manifest}\""


# Makes what the embedded server wrote durable, once a second. The server's own `appendfsync everysec` puts its
# writes off while such a sync runs: killed in that moment it loses what it had acknowledged. With the sync done
# here it writes before each answer, and only the machine's death costs anything.


SYNC_EVERY_S = 1.0
ERROR_LOGGED_EVERY_S = 60.0

_PATTERN = "appendonlydir/*.incr.aof"
"""The files that grow. The server syncs the others itself, once they are whole."""

_log = logging.getLogger(__name__)


class AofSync(PeriodicThread):
    """Syncs the files that changed, from a thread: a sync may take long, and the event loop may stand still."""

    def __init__(self, folder: Path) -> None:
        super().__init__("crmd store sync", SYNC_EVERY_S)
        self._folder = folder
        self._synced: dict[Path, int] = {}
        self._errors = Throttle(ERROR_LOGGED_EVERY_S)

    def run_once(self) -> int:
        """Syncs what changed since the last time; returns how many files. An error is logged."""
        try:
            return self._sync()
        except FileNotFoundError:
            return 0  # the server has just rewritten its file
        except OSError as error:
            if self._errors.allow("sync") is not None:
                _log.error("the store's file cannot be synced, a power failure may lose jobs: %s", error)
            return 0

    def _sync(self) -> int:
        changed = {}
        for path in self._folder.glob(_PATTERN):
            size = path.stat().st_size
            if self._synced.get(path) != size:
                changed[path] = size
        for path, size in changed.items():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            self._synced[path] = size
        return len(changed)
