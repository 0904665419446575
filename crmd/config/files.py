"""Finds the configuration file and reads it."""

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

from crmd.config.environment import CONFIG_VARIABLE
from crmd.errors import ConfigError, Problem

LOCAL_NAME = "config.toml"
SYSTEM_CONFIG = Path("/etc/crmd/config.toml")

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
