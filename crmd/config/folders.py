"""Where the daemon keeps its state, and what relative paths in the configuration mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_STATE_DIR = Path("/var/lib/crmd")


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


def _usable(directory: Path) -> bool:
    """Whether the folder exists and may be written, or may be created."""
    if directory.exists():
        return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)
    return os.access(directory.parent, os.W_OK | os.X_OK)
