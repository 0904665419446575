"""The files of the embedded store's data before a server opens them: all there, all listed, all accessible.

A server that finds no manifest begins afresh and says nothing, and appends to what was there before; one whose
manifest lacks a file goes on without it. Both lose data that a person could still have saved.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from crmd.embedded.aof import MANIFEST, damaged
from crmd.errors import ConfigError, Problem

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
