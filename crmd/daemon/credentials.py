"""The password of the HTTP user: the configured one, or one that the first start makes and keeps."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

from crmd.config.load import Loaded
from crmd.errors import ConfigError, Problem
from crmd.store.statedir import StateDir

FILE_NAME = "password"
"""In the state folder."""

GENERATED_BYTES = 18
"""Random bytes of a made password: 24 characters."""

KEY = "auth.password"


@dataclass(frozen=True, slots=True)
class Password:
    """The password in force."""

    value: str = field(repr=False)
    source: str
    """Where it stands, to show."""


def find_password(loaded: Loaded) -> Password | None:
    """The password in force, the configured before the kept one; None where there is none yet."""
    configured = loaded.settings.auth.password.get_secret_value()
    if configured:
        return Password(configured, loaded.sources[KEY])
    state = StateDir(loaded.settings.daemon.state_dir)
    kept = (state.read_private(FILE_NAME) or "").rstrip("\r\n")
    return Password(kept, str(state.path / FILE_NAME)) if kept else None


def ensure_password(loaded: Loaded) -> Password:
    """The password in force; makes and keeps one on the first start.

    Raises ConfigError where a person has to set one: the store is external and other machines reach HTTP.
    """
    found = find_password(loaded)
    if found is not None:
        return found
    if problem := missing_password(loaded):
        raise ConfigError([problem])
    return keep_password(loaded, secrets.token_urlsafe(GENERATED_BYTES))


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
    return Password(value, str(path))
