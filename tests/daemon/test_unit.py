"""The shipped systemd unit, judged by systemd itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crmd.errors import ExitCode

SYSTEMD = Path(__file__).parents[2] / "systemd"
MAX_EXPOSURE = 1.2

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The shipped units with a program that exists here, and their drop-ins in force."""
    text = (SYSTEMD / "crmd.service").read_text()
    (tmp_path / "crmd.service").write_text(text.replace("/opt/crmd/bin/crmd", sys.executable))
    shutil.copy(SYSTEMD / "crmd.socket", tmp_path)
    drop_ins = tmp_path / "crmd.service.d"
    drop_ins.mkdir()
    for example in (SYSTEMD / "crmd.service.d").glob("*.conf.example"):
        shutil.copy(example, drop_ins / example.stem)
    return tmp_path


@pytest.mark.parametrize("unit", ["crmd.service", "crmd.socket"])
def test_verify_finds_nothing(units: Path, unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units / unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_exposure_stays_low(units: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=100", str(units / "crmd.service")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"Overall exposure level for crmd.service: ([\d.]+)", output)
    assert match
    assert float(match[1]) <= MAX_EXPOSURE


def test_bad_configuration_ends_the_restarts(units: Path) -> None:
    text = (units / "crmd.service").read_text()
    assert f"RestartPreventExitStatus={ExitCode.CONFIG:d}\n" in text


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (ExitCode.CONFIG, ["-q is-active crmd.socket", "--no-block stop crmd.socket"]),
        (ExitCode.UNAVAILABLE, []),
        (ExitCode.OK, []),
    ],
)
def test_bad_configuration_stops_the_socket_that_would_start_it_again(
    code: ExitCode, calls: list[str], tmp_path: Path
) -> None:
    (line,) = re.findall(r"^ExecStopPost=(.*)$", (SYSTEMD / "crmd.service").read_text(), re.MULTILINE)
    assert line.startswith("-+"), "as root, and what it ends with does not count"
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    program.chmod(0o755)
    command = shlex.split(line.removeprefix("-+").replace("$$", "$"))  # as systemd reads it
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EXIT_STATUS": f"{code:d}"}
    subprocess.run(command, env=environment, check=False, timeout=10)
    made = tmp_path / "calls"
    assert (made.read_text().splitlines() if made.exists() else []) == calls


def test_a_start_brings_the_socket_back() -> None:
    assert "WantedBy=sockets.target crmd.service\n" in (SYSTEMD / "crmd.socket").read_text()
