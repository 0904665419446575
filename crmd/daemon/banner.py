"""What `crmd run` prints once it is ready: its address, its user, and a job to try."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from crmd.version import __version__

TRIAL = 'enqueue notification notify message="hello" --wait 10s'
"""A job that needs no account with any service."""


def startup_banner(*, address: str | None, username: str, command: str) -> str:
    """The text for a person who has just started the daemon.

    `address` is the URL where HTTP is served, None where it is off; `command` is how to type crmd for this daemon.
    """
    lines = [f"crmd {__version__} is ready" + (f" at {address}" if address else "; HTTP is off")]
    if address:
        lines.append(f"  queues    {address}/admin/queues")
        lines.append(f"  user      {username}; its password: {command} password show")
    lines.append(f"  try       {command} {TRIAL}")
    lines.append(f"  look      {command} status")
    return "\n".join(lines)


def typed_command(program: str, options: Sequence[str], cwd: Path) -> str:
    """How a person in `cwd` types the program, with the options that lead to this daemon."""
    return shlex.join([*_typed_program(program, cwd), *options])


def _typed_program(program: str, cwd: Path) -> list[str]:
    path = Path(program)
    if path.name == "__main__.py":
        return [short_path(Path(sys.executable), cwd), "-m", "crmd"]
    found = shutil.which("crmd")
    return ["crmd"] if found is not None and Path(found) == path else [short_path(path, cwd)]


def short_path(path: Path, cwd: Path) -> str:
    """A path as a person in `cwd` types it."""
    return str(path.relative_to(cwd)) if cwd != Path("/") and path.is_relative_to(cwd) else str(path)
