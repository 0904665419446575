"""Another commit of the project beside the checked-out one: its files, and a virtual environment of its own.

Both are made on first use below `.revisions/` and kept; `make clean` removes them.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".revisions"
VERSION_0_1_0 = "8f06435"


class RevisionUnknown(Exception):
    """The git history at hand does not have the commit."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit."""

    commit: str
    """Its full id."""

    @property
    def folder(self) -> Path:
        """What is kept of it."""
        return FOLDER / self.commit[:12]

    def source(self) -> Path:
        """The folder with its files."""
        source = self.folder / "source"
        if not source.exists():
            draft = self.folder / "draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            archive = _git("archive", "--format=tar", self.commit)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(draft, filter="data")
            draft.rename(source)
        return source

    def python(self) -> Path:
        """The interpreter of its virtual environment, in which it is installed."""
        source, environment, made = self.source(), self.folder / "venv", self.folder / "venv-made"
        python = environment / "bin" / "python"
        if not made.exists():
            shutil.rmtree(environment, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
            subprocess.run([*pip, "-e", source], check=True)
            made.touch()
        return python


def find_revision(name: str) -> Revision:
    """The commit of this name; raises RevisionUnknown where the history does not have it."""
    try:
        return Revision(_git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip())
    except (subprocess.CalledProcessError, FileNotFoundError):
        raise RevisionUnknown(f"git has no commit {name} here; fetch the whole history") from None


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=PROJECT, check=True, capture_output=True).stdout
