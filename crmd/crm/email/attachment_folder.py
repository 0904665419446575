"""The folder whose files jobs may attach to mail by path."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

FOLDER = "attachments"
"""Below the state folder."""

_NOT_READABLE = {
    errno.ELOOP: "a link, which is not followed",
    errno.ENOTDIR: "not below plain folders: links are not followed",
    errno.EACCES: "not readable for the daemon",
    errno.ENXIO: "not a regular file",
    errno.ENAMETOOLONG: "too long a path",
}


class AttachmentFolder:
    """Reads files below one folder, and nothing outside of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str, max_bytes: int) -> bytes:
        """The file of that path below the folder. Blocks.

        No part of the path may be a link, so that nobody who can write into the folder can show what is outside.
        Raises ValueError that says what is wrong, and OSError where the disk fails.
        """
        try:
            descriptor = self._open(check_path(name))
        except FileNotFoundError:
            raise ValueError(f"there is no {name} below {self.path}") from None
        except OSError as error:
            if error.errno not in _NOT_READABLE:
                raise
            raise ValueError(f"{name} below {self.path} is {_NOT_READABLE[error.errno]}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{name} is not a regular file")
            if found.st_size > max_bytes:
                raise ValueError(f"{name} has {found.st_size:,} bytes; there is room for {max_bytes:,}")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(max_bytes)
        finally:
            os.close(descriptor)

    def _open(self, parts: tuple[str, ...]) -> int:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                inner = _open_at(folder, part, os.O_DIRECTORY)
                os.close(folder)
                folder = inner
            # Non-blocking, because opening a named pipe would wait for its writer.
            return _open_at(folder, parts[-1], os.O_NONBLOCK)
        finally:
            os.close(folder)


def check_path(name: str) -> tuple[str, ...]:
    """The parts of a path that stays below its folder; raises ValueError for another."""
    path = PurePosixPath(name)
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or "\0" in name:
        raise ValueError(f"must be a path below the folder {FOLDER} of the state folder, without ..")
    return parts


def _open_at(folder: int, part: str, flags: int) -> int:
    return os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
