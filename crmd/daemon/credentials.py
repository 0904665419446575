"""The password of the HTTP user: the configured one, or one that the first start makes and keeps."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

from crmd.config.load import Loaded
from crmd.embedded.state_folder import StateDir
from crmd.errors import ConfigError, Problem

FILE_NAME = "password"
"""In the state folder: the password that was made or set."""

SOURCE_NAME = "password_source"
"""In the state folder: where the daemon found its password, if elsewhere. Commands may not see its environment."""

GENERATED_BYTES = 18
"""Random bytes of a made password: 24 characters."""

KEY = "auth.password"


@dataclass(frozen=True, slots=True)
class Password:
    """The password in force."""

    value: str = field(repr=False)
    source: str
    """Where it stands, to show."""
    configured: bool
    """False where it stands in the state folder."""


def find_password(loaded: Loaded) -> Password | None:
    """The password in force, the configured before the kept one; None where there is none yet."""
    configured = loaded.settings.auth.password.get_secret_value()
    if configured:
        return Password(configured, loaded.sources[KEY], configured=True)
    state = StateDir(loaded.settings.daemon.state_dir)
    kept = (state.read_private(FILE_NAME) or "").rstrip("\r\n")
    return Password(kept, str(state.path / FILE_NAME), configured=False) if kept else None


def ensure_password(loaded: Loaded) -> Password:
    """The password in force; makes and keeps one on the first start.

    Raises ConfigError where a person has to set one: the store is external and other machines reach HTTP.
    """
    state = StateDir(loaded.settings.daemon.state_dir)
    found = find_password(loaded)
    if found is not None and found.configured:
        state.create()
        if daemon_source(loaded) != found.source:  # on a full disk nothing could be written
            state.write_private(SOURCE_NAME, found.source + "\n")
        return found
    if problem := missing_password(loaded):
        raise ConfigError([problem])
    state.create()
    state.delete_private(SOURCE_NAME)
    return found or keep_password(loaded, secrets.token_urlsafe(GENERATED_BYTES))


def daemon_source(loaded: Loaded) -> str | None:
    """Where the daemon last found its password, if not in the state folder."""
    state = StateDir(loaded.settings.daemon.state_dir)
    return (state.read_private(SOURCE_NAME) or "").strip() or None


def missing_password(loaded: Loaded) -> Problem | None:
    """What is wrong where a person has to set a password and has not."""
    if not loaded.settings.password_required or find_password(loaded) is not None:
        return None
    reason = (
        "has to be set where the store is external and http.host is not a loopback address, as each daemon "
        "would make its own; set it, or run `crmd password set` on each machine"
    )
    return Problem(str(loaded.path or "configuration"), KEY, reason)


def keep_password(loaded: Loaded, value: str) -> Password:
    """Writes the password into the state folder, for the folder's owner only."""
    state = StateDir(loaded.settings.daemon.state_dir)
    state.create()
    state.write_private(FILE_NAME, value + "\n")
    path = state.path / FILE_NAME
    folder = state.path.stat()
    if os.geteuid() == 0 and folder.st_uid != 0:  # root types for a daemon that runs as another user
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)
    return Password(value, str(path), configured=False)
