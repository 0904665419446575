"""`crmd password` and `crmd token`, and where the password is kept."""

from __future__ import annotations

import hashlib
import stat
import tomllib
from pathlib import Path

import pytest

from crmd.config.load import Loaded, load
from crmd.daemon.credentials import ensure_password, find_password, missing_password
from crmd.errors import ConfigError, ExitCode
from tests.support.cli import Cli, cli

__all__ = ["cli"]


def loaded_from(folder: Path, text: str) -> Loaded:
    (folder / "config.toml").write_text(f'[daemon]\nstate_dir = "{folder}/state"\n{text}')
    return load(path=folder / "config.toml", environ={}, cwd=folder)


def test_the_first_start_makes_a_password_and_the_second_finds_it(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, "")
    assert find_password(loaded) is None
    made = ensure_password(loaded)
    assert len(made.value) >= 20
    assert ensure_password(loaded) == made
    file = tmp_path / "state" / "password"
    assert made.source == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.value not in repr(made)


def test_the_configured_password_has_precedence(tmp_path: Path) -> None:
    ensure_password(loaded_from(tmp_path, ""))
    loaded = loaded_from(tmp_path, '[auth]\npassword = "configured"')
    password = ensure_password(loaded)
    assert (password.value, password.source) == ("configured", str(tmp_path / "config.toml"))


def test_a_password_that_only_the_daemon_sees_is_named_and_not_mistaken(cli: Cli) -> None:
    cli("password", "set", stdin="correct horse\n")
    secret = {"CRMD_AUTH__PASSWORD": "from outside"}
    ensure_password(load(path=cli.config, environ=secret, cwd=cli.folder))
    for done in (cli("password", "show"), cli("password", "set", stdin="another horse\n")):
        assert (done.code, done.out) == (ExitCode.FAILED, "")
        assert "from environment CRMD_AUTH__PASSWORD, which this command does not see" in done.complaint
    ensure_password(load(path=cli.config, environ={}, cwd=cli.folder))
    assert cli("password", "show").out == "correct horse\n"


OPEN_TO_OTHERS = '[redis]\nurl = "redis://localhost"\n[http]\nhost = "0.0.0.0"\n'


def test_a_password_has_to_be_set_where_others_reach_the_daemon_and_its_store(tmp_path: Path) -> None:
    loaded = loaded_from(tmp_path, OPEN_TO_OTHERS)
    with pytest.raises(ConfigError, match=r"auth\.password: has to be set"):
        ensure_password(loaded)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", ['[http]\nhost = "0.0.0.0"', '[redis]\nurl = "redis://localhost"', ""])
def test_elsewhere_it_is_made(tmp_path: Path, text: str) -> None:
    loaded = loaded_from(tmp_path, text)
    assert missing_password(loaded) is None
    assert ensure_password(loaded).value


def test_set_then_show(cli: Cli) -> None:
    assert cli("password", "show").code == ExitCode.FAILED
    done = cli("password", "set", stdin="correct horse\n")
    assert (done.code, done.out) == (ExitCode.OK, "")
    assert str(cli.state_dir / "password") in done.err
    assert cli("password", "show").out == "correct horse\n"
    assert cli("password", "show", "--json").json == {
        "username": "admin",
        "password": "correct horse",
        "source": str(cli.state_dir / "password"),
    }


def test_set_counts_for_a_daemon_that_others_reach(cli: Cli) -> None:
    cli.configure(OPEN_TO_OTHERS)
    assert cli("password", "set", stdin="correct horse\n").code == ExitCode.OK
    assert ensure_password(load(path=cli.config, environ={}, cwd=cli.folder)).value == "correct horse"


@pytest.mark.parametrize("weak", ["short", "admin123", ""])
def test_weak_passwords_are_refused(cli: Cli, weak: str) -> None:
    done = cli("password", "set", stdin=weak + "\n")
    assert done.code == ExitCode.FAILED
    assert done.complaint.startswith("the password is ")
    assert cli("password", "show").code == ExitCode.FAILED


def test_set_does_not_hide_behind_a_configured_one(cli: Cli) -> None:
    cli.configure('[auth]\npassword = "configured"')
    done = cli("password", "set", stdin="correct horse\n")
    assert done.code == ExitCode.FAILED
    assert done.complaint == f"auth.password is set in {cli.config} and has precedence; change it there"
    assert cli("password", "show").out == "configured\n"


def test_a_token_goes_into_the_configuration_as_its_hash(cli: Cli) -> None:
    done = cli("token", "new", "shop", "--scope", "enqueue", "--queue", "message")
    made, _, table = done.out.partition("\n")
    assert tomllib.loads(table) == {
        "auth": {
            "tokens": {
                "shop": {
                    "sha256": hashlib.sha256(made.encode()).hexdigest(),
                    "scopes": ["enqueue"],
                    "queues": ["message"],
                }
            }
        }
    }
    cli.configure(table)
    assert cli("check").code == ExitCode.OK


def test_tokens_as_json(cli: Cli) -> None:
    made = cli("--json", "token", "new", "shop").json
    assert hashlib.sha256(made["token"].encode()).hexdigest() == made["sha256"]
    assert made["scopes"] == ["enqueue", "read"]


def test_token_names_are_toml_keys(cli: Cli) -> None:
    assert cli("token", "new", "a.b").code == ExitCode.USAGE
