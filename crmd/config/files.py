"""The configuration's files and folders: which one applies, whether it can be trusted, what is in it."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crmd.errors import ConfigError, Problem

CONFIG_VARIABLE = "CRMD_CONFIG"
LOCAL_NAME = "config.toml"
SYSTEM_CONFIG = Path("/etc/crmd/config.toml")
SYSTEM_STATE_DIR = Path("/var/lib/crmd")
SECRET_FILE_MAX_BYTES = 64 * 1024
"""More than any secret has; keeps a mistaken path such as a log from being read whole."""

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file that was found, or none."""

    path: Path | None = None
    data: dict[str, Any] = field(default_factory=dict)
    open_to_all: bool = False
    """Whether every user of the machine may read it."""
    warnings: tuple[str, ...] = ()


def find_and_read(path: Path | None, environ: Mapping[str, str], cwd: Path, system_config: Path) -> ConfigFile:
    """Reads the file that `--config`, `$CRMD_CONFIG`, the working folder or the system has, in this order.

    Raises ConfigError where a named file is missing, or one cannot be read or is not TOML.
    """
    named = path or environ.get(CONFIG_VARIABLE)
    if named:
        found = _read(cwd / named)
        distrust = _distrust(cwd / named, owners=(os.geteuid(), 0))
        return replace(found, warnings=(distrust.warning(cwd / named),) if distrust else ())
    local = cwd / LOCAL_NAME
    is_local, has_system, warnings = local.is_file(), _exists(system_config), list[str]()
    if is_local:
        distrust = _distrust(local, owners=(os.geteuid(),))
        if not distrust:
            if has_system:
                warnings.append(
                    f"{local} is read, and {system_config} is not; name the one you mean with --config"
                )
            return replace(_read(local), warnings=tuple(warnings))
        warnings.append(f"{local}: not read: {distrust.why}; name it with --config if it is yours")
    found = _read(system_config) if has_system else ConfigFile()
    return replace(found, warnings=tuple(warnings))


def read_secret_file(path: Path, credentials_directory: Path | None = None) -> str:
    """A secret's text without its trailing newline; raises ValueError that says what is wrong with the file.

    The file must be its owner's only, except under `credentials_directory`, which systemd guards by other means.
    """
    data, mode = _read_regular_file(path)
    guarded = credentials_directory is not None and path.is_relative_to(credentials_directory)
    if mode & _OTHERS and not guarded:
        raise ValueError(f"{path} is open to other users; run: chmod 600 {path}")
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def default_state_dir(environ: Mapping[str, str], system_dir: Path = SYSTEM_STATE_DIR) -> tuple[Path, str]:
    """The state folder where none is set, and where that comes from; nothing is created.

    Raises ValueError where the environment names no home.
    """
    # systemd lists several with colons between; the first is ours.
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given), "environment STATE_DIRECTORY"
    if _usable(system_dir):
        return system_dir, "default"
    if (base := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(base) / "crmd", "environment XDG_STATE_HOME"
    if home := environ.get("HOME"):
        return Path(home) / ".local/state/crmd", "default"
    raise ValueError(f"{system_dir} cannot be used and HOME is not set; set it, or pass --state-dir")


def absolute(path: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    """A path with `~/` and what it is relative to filled in."""
    if path.parts[:1] == ("~",) and environ.get("HOME"):
        path = Path(environ["HOME"], *path.parts[1:])
    return Path(os.path.normpath(folder / path))


@dataclass(frozen=True, slots=True)
class _Distrust:
    """Why a file is not to be trusted, what follows, and the command that mends it, but for the path."""

    why: str
    so: str
    mend: str

    def warning(self, path: Path) -> str:
        return f"{path}: {self.why}{self.so}; run: {self.mend} {shlex.quote(str(path))}"


def _distrust(path: Path, owners: tuple[int, ...]) -> _Distrust | None:
    """Whether a file is not to be trusted, by its owner and mode."""
    status = path.stat()
    if status.st_uid not in owners:
        return _Distrust("it belongs to another user", ", who can change what crmd runs", f"chown {os.geteuid()}")
    if status.st_mode & _OTHERS_MAY_WRITE:
        return _Distrust("other users can write it", ", and so decide what crmd runs", "chmod go-w")
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A folder that may not be searched: reading says so.
        return True


def _read(path: Path) -> ConfigFile:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([Problem(str(path), "", f"cannot be read: {reason}")]) from None
    return ConfigFile(path, _parse(path, data), bool(mode & stat.S_IROTH))


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), "", f"line {line}: is not UTF-8 text")]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), "", _syntax_reason(str(error), text))]) from None
    except RecursionError:
        raise ConfigError([Problem(str(path), "", "is nested too deeply")]) from None


def _syntax_reason(message: str, text: str) -> str:
    """The parser's message with the position first: `line 3, column 8: Invalid value`."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if match:
        return f"line {match[2]}, column {match[3]}: {match[1]}"
    last = text.rstrip("\n").rsplit("\n", 1)[-1]
    line = text.rstrip("\n").count("\n") + 1
    return f"line {line}, column {len(last) + 1}: {message.removesuffix(' (at end of document)')}"


def _read_regular_file(path: Path) -> tuple[bytes, int]:
    try:
        # Non-blocking, because opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path} cannot be read: {reason}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(SECRET_FILE_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > SECRET_FILE_MAX_BYTES:
        raise ValueError(f"{path} is larger than {SECRET_FILE_MAX_BYTES} bytes; it cannot be a secret")
    return data, mode


def _usable(directory: Path) -> bool:
    """Whether the folder exists and may be written, or may be created."""
    if directory.exists():
        return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)
    return os.access(directory.parent, os.W_OK | os.X_OK)
