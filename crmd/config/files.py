"""Finds the configuration file and reads it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    if path is not None:
        return _read(cwd / path)
    if named := environ.get(CONFIG_VARIABLE):
        return _read(cwd / named)
    warnings: tuple[str, ...] = ()
    local = cwd / LOCAL_NAME
    if local.is_file():
        distrust = _distrust(local)
        if not distrust:
            return _read(local)
        warnings = (f"{local}: not read: {distrust}; name it with --config if it is yours",)
    if _exists(system_config):
        found = _read(system_config)
        return ConfigFile(found.path, found.data, found.open_to_all, warnings)
    return ConfigFile(warnings=warnings)


def _distrust(path: Path) -> str | None:
    """Why a file that nobody named is not to be trusted."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return "other users may write it"
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
