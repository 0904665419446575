"""Runs the command line: in this process against a store, or as a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crmd.cli.kit import base
from crmd.cli.main import root


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on standard error."""
        (line,) = self.err.splitlines()
        return line.removeprefix("crmd: ")


class Cli:
    """`crmd` with a configuration file, called in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.state_dir = folder / "state"
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def configure(self, text: str) -> None:
        """Writes the configuration file, for its owner only as it may hold secrets."""
        self.config.touch(mode=0o600)
        self.config.write_text(f'[daemon]\nstate_dir = "{self.state_dir}"\n{text}')

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code = base.run(root(), ["--config", str(self.config), *arguments])
        output = self._capsys.readouterr()
        return Result(code, output.out, output.err)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`crmd` on a configuration without a store."""
    made = Cli(tmp_path, capsys, monkeypatch)
    made.configure("")
    return made


@pytest.fixture
def store_cli(cli: Cli, store_url: str) -> Cli:
    """`crmd` on an empty store."""
    cli.configure(f'[redis]\nurl = "{store_url}"')
    return cli


def crmd(
    *arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str | None = None
) -> Result:
    """`crmd` as a process of its own, as a person types it."""
    done = subprocess.run(
        [sys.executable, "-m", "crmd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        input=stdin,
        timeout=30,
    )
    return Result(done.returncode, done.stdout, done.stderr)
