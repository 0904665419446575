"""`crmd check`: all problems at once, or the settings in force with their sources."""

from __future__ import annotations

import pytest

from crmd.errors import ExitCode
from tests.support.cli import Cli, cli

__all__ = ["cli"]


def test_every_problem_has_its_line(cli: Cli) -> None:
    cli.configure("[http]\nport = 70000\n[queues.message]\nconcurency = 5\n[defaults]\ntimeout = 5\n")
    done = cli("check")
    assert (done.code, done.out) == (ExitCode.CONFIG, "")
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"crmd: {cli.config}: ") for line in lines)


def test_handlers_that_cannot_be_imported_are_problems(cli: Cli) -> None:
    cli.configure('[queues.message]\nhandlers = ["no.such.module"]')
    done = cli("check", "--json")
    assert done.code == ExitCode.CONFIG
    (problem,) = done.json["problems"]
    assert problem["key"] == "queues.message.handlers"
    assert "no.such.module" in problem["reason"]


def test_a_missing_password_is_a_problem(cli: Cli) -> None:
    cli.configure('[redis]\nurl = "redis://localhost"\n[http]\nhost = "0.0.0.0"')
    assert "auth.password: has to be set" in cli("check").complaint


def test_settings_are_shown_with_their_sources_and_without_secrets(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRMD_HTTP__PORT", "8099")
    cli.configure('[auth]\npassword = "geheim geheim"\n[redis]\nurl = "redis://:geheim@localhost"')
    done = cli("check")
    assert done.code == ExitCode.OK
    assert "geheim" not in done.out + done.err
    rows = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert rows["http.port"].split()[1:] == ["8099", "environment", "CRMD_HTTP__PORT"]
    assert rows["http.host"].split()[1:] == ['"127.0.0.1"', "default"]
    assert "20/m" in rows["queues.message.rate_limit"]


def test_check_as_json(cli: Cli) -> None:
    answer = cli("--json", "check").json
    assert answer["valid"] is True
    assert answer["path"] == str(cli.config)
    assert {"key": "http.host", "value": '"127.0.0.1"', "source": "default"} in answer["settings"]


def test_a_client_that_cannot_be_made_is_a_problem(cli: Cli) -> None:
    cli.configure('[database]\nurl = "postgresql://crm:geheim@db/crm?pgbouncer=true"')
    done = cli("check", "--json")
    (problem,) = done.json["problems"]
    assert problem["key"] == "database"
    assert "option pgbouncer is not known" in problem["reason"]
    assert "geheim" not in done.out + done.err
