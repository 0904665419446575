"""The first text that a person reads of the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crmd.daemon.banner import startup_banner, typed_command


def test_it_names_everything_needed_to_go_on() -> None:
    command = ".venv/bin/crmd --state-dir .state"
    text = startup_banner(address="http://127.0.0.1:8080", username="admin", command=command)
    assert "http://127.0.0.1:8080/admin/queues" in text
    assert "admin; its password: .venv/bin/crmd --state-dir .state password show" in text
    assert ".venv/bin/crmd --state-dir .state enqueue notification notify" in text


def test_without_http_there_is_no_user() -> None:
    text = startup_banner(address=None, username="admin", command="crmd")
    assert "HTTP is off" in text
    assert "password" not in text


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/home/me/crmd/.venv/bin/crmd", ".venv/bin/crmd --state-dir 'my state'"),
        ("/opt/crmd/bin/crmd", "/opt/crmd/bin/crmd --state-dir 'my state'"),
        (".venv/bin/crmd", ".venv/bin/crmd --state-dir 'my state'"),
        ("/x/crmd/__main__.py", f"{sys.executable} -m crmd --state-dir 'my state'"),
    ],
)
def test_the_command_can_be_typed_where_the_person_is(program: str, typed: str) -> None:
    assert typed_command(program, ["--state-dir", "my state"], Path("/home/me/crmd")) == typed


def test_nothing_is_relative_to_the_root_folder() -> None:
    assert typed_command("/opt/crmd/bin/crmd", [], Path("/")) == "/opt/crmd/bin/crmd"


def test_on_path_it_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crmd").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert typed_command(f"{tmp_path}/crmd", [], Path("/")) == "crmd"
