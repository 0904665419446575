"""The daemon's state folder: who holds it, its identity, and files that only its owner may read."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
import uuid
from pathlib import Path

from crmd.errors import ConfigError, CrmdError, Problem, StateDirTaken, StoreFull

LOCK_NAME = "lock"
HOST_ID_NAME = "identity"
SET_ASIDE = ".set-aside-"
SET_ASIDE_KEPT = 5

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_HOST_ID = re.compile(r"[0-9a-f]{32}")
_PRIVATE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StateDir:
    """A folder that only its owner may enter, and that one daemon at a time holds.

    The constructor touches nothing; `create()` and `lock()` make the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd: int | None = None

    @property
    def locked(self) -> bool:
        """Whether this process holds the folder."""
        return self._lock_fd is not None

    def create(self) -> None:
        """Makes the folder with mode 0700, or checks the one that is there.

        Raises ConfigError where it cannot be used and says what to do, StoreFull when the disk is full.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = self.path.stat()
        except OSError as error:
            raise self._failure("cannot be used as a folder", error) from None
        self._check_owner(info)
        if info.st_mode & _OTHERS:
            self._close_to_others(info)

    def lock(self) -> None:
        """Takes the folder for the life of this process; raises StateDirTaken that names the holder.

        The kernel lets go of it when the process dies, however it dies: who holds it knows its predecessor dead.
        """
        if self._lock_fd is not None:
            return
        self.create()
        try:
            fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._failure(f"its {LOCK_NAME} file cannot be opened", error) from None
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd

    def release(self) -> None:
        """Lets go of the folder; does nothing when it is not held."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    @property
    def host_id(self) -> str:
        """32 hex digits that stay the same for the life of the folder; made on first use."""
        known = self.read_private(HOST_ID_NAME)
        if known is not None and _HOST_ID.fullmatch(known.strip()):
            return known.strip()
        made = uuid.uuid4().hex
        self.write_private(HOST_ID_NAME, made + "\n")
        return made

    def write_private(self, name: str, text: str) -> None:
        """Writes a file that only its owner can read, wholly or not at all, also over a power loss."""
        path = self._private_path(name)
        draft = path.with_name(f".{name}.{secrets.token_hex(4)}")
        try:
            self._write_durably(draft, text)
            draft.replace(path)
            self._sync_folder()
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._failure(f"its file {name} cannot be written", error) from None

    def read_private(self, name: str) -> str | None:
        """The text of such a file; None where there is none."""
        try:
            return self._private_path(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._failure(f"its file {name} cannot be read", error) from None

    def read_private_bytes(self, name: str) -> bytes | None:
        """What such a file holds, be it text or not; None where there is none."""
        try:
            return self._private_path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure(f"its file {name} cannot be read", error) from None

    def set_aside(self, name: str) -> str:
        """Renames such a file so that a person can look at it, and returns its path; the newest few are kept."""
        path = self._private_path(name)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = path.with_name(f"{path.stem}{SET_ASIDE}{stamp}-{secrets.token_hex(2)}{path.suffix}")
        try:
            path.rename(aside)
            older = sorted(
                self.path.glob(f"{path.stem}{SET_ASIDE}*{path.suffix}"), key=lambda one: one.stat().st_mtime
            )
            for one in older[:-SET_ASIDE_KEPT]:
                one.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(f"its file {name} cannot be set aside", error) from None
        return str(aside)

    def delete_private(self, name: str) -> None:
        """Deletes such a file; does nothing where there is none."""
        try:
            self._private_path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(f"its file {name} cannot be deleted", error) from None

    def _check_owner(self, info: os.stat_result) -> None:
        user = os.geteuid()
        if user not in (0, info.st_uid):
            raise self._refusal(f"belongs to user {info.st_uid} and this is user {user}; choose another folder")

    def _close_to_others(self, info: os.stat_result) -> None:
        # Only a folder that is plainly ours changes its mode: a mistyped "/tmp" or "." must not.
        ours = not info.st_mode & stat.S_ISVTX and (
            (self.path / HOST_ID_NAME).exists() or not any(self.path.iterdir())
        )
        if not ours:
            raise self._refusal(
                f"is open to other users (mode {stat.S_IMODE(info.st_mode):04o}) and holds other things; "
                f'choose a folder of its own, or run: chmod 700 "{self.path}"'
            )
        try:
            self.path.chmod(0o700)
        except OSError as error:
            raise self._failure("is open to other users and its mode cannot be changed", error) from None

    def _take(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise StateDirTaken(
                f"state folder {self.path} is in use by "
                f"{f'process {holder}' if holder.isdigit() else 'another process'}; "
                "stop that daemon, or give this one its own folder with --state-dir"
            ) from None
        except OSError as error:
            raise self._failure("its file system cannot lock files", error) from None
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            if error.errno not in _DISK_FULL:  # it is held all the same; only its holder is not named
                raise self._failure(f"its {LOCK_NAME} file cannot be written", error) from None

    def _private_path(self, name: str) -> Path:
        if not _PRIVATE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain file name")
        return self.path / name

    def _write_durably(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _sync_folder(self) -> None:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _failure(self, what: str, error: OSError | UnicodeDecodeError) -> CrmdError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return StoreFull(f"state folder {self.path}: {what}: {reason}; free some space on that disk")
        return self._refusal(f"{what}: {reason}; mend that, or choose another folder with --state-dir")

    def _refusal(self, reason: str) -> ConfigError:
        return ConfigError([Problem(str(self.path), "daemon.state_dir", reason)])
