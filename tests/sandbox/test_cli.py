"""`crmd sandbox` as a person types it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from crmd.config.load import load
from tests.support.cli import Cli
from tests.support.wait import wait_until_sync


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "crmd", "sandbox", "--port", "0", "--smtp-port", "0", "--callback", "none"]
    as_json = ["--json"] if number is signal.SIGTERM else []
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([*command, *as_json], stdout=out, stderr=subprocess.STDOUT)
    try:
        said = wait_until_sync(lambda: _whole(tmp_path / "out", bool(as_json)), 20)
        url = json.loads(said)["url"] if as_json else said.split("shown at ")[1].split()[0]
        with urllib.request.urlopen(url, timeout=5) as response:
            assert b"crmd sandbox" in response.read()
        os.kill(process.pid, number)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    if not as_json:
        assert "[whatsapp]" in said
        assert f'base_url = "{url}/v1"' in said


def _whole(file: Path, as_json: bool) -> str | None:
    text = file.read_text()
    return text if text.endswith("\n") and (as_json or "Ctrl-C ends it" in text) else None


def test_the_exports_configure_crmd(cli: Cli, tmp_path: Path) -> None:
    result = cli("sandbox", "--exports", "--host", "0.0.0.0", "--port", "9001")
    assert result.code == 0
    environ = {"HOME": str(tmp_path)}
    for line in result.out.splitlines():
        [word, assignment] = shlex.split(line)
        assert word == "export"
        name, _, value = assignment.partition("=")
        environ[name] = value
    settings = load(path=None, environ=environ, cwd=tmp_path / "none").settings
    assert settings.whatsapp.base_url == "http://127.0.0.1:9001"
    assert settings.smtp.port == 8025


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--exports", "--port", "0"), "known beforehand"),
        (("--host", "localhost"), "IP address"),
        (("--callback", "localhost:8080"), "--callback"),
        (("--read-share", "2"), "--read-share"),
        (("--throughput", "0"), "--throughput"),
    ],
)
def test_wrong_usage_is_said(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    result = cli("sandbox", *arguments)
    assert result.code == 2
    assert words in result.complaint


def test_a_taken_port_is_said(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = cli("sandbox", "--port", port, "--callback", "none")
    assert result.code == 69
    assert port in result.complaint
