"""The command line as processes: start-up, exit codes, environment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from crmd import __version__
from crmd.cli.main import root
from crmd.errors import ExitCode
from tests.support.cli import crmd

HEAVY = ("aiohttp", "pydantic", "redis", "rich", "saq", "uvloop")


def test_help_and_parsing_load_nothing_heavy() -> None:
    program = (
        "import sys; from crmd.cli.main import root; from crmd.cli.kit import base;"
        "base.run(root(), ['enqueue', '--help']);"
        f"sys.exit(' '.join(sorted({set(HEAVY)!r} & sys.modules.keys())) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.returncode) == ("", 0)
    assert "crmd enqueue notification notify" in done.stdout


def test_the_list_of_commands_loads_none_of_them() -> None:
    program = (
        "import sys; from crmd.cli.main import root; from crmd.cli.kit import base;"
        "base.run(root(), ['--help']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, loaded = done.stdout.rstrip().rsplit("\n", 1)
    listed = [line.split()[0] for line in text.partition("Commands:\n")[2].splitlines()]
    assert listed == list(root().commands)
    assert [name for name in loaded.split() if re.match(r"asyncio$|crmd\.(cli\.commands|crm\.\w+\.)", name)] == []


def test_each_command_is_where_it_is_declared() -> None:
    assert all(isinstance(command, click.Command) for command in root().commands.values())
    assert [command.name for command in root().commands.values()] == list(root().commands)


@pytest.mark.parametrize("arguments", [("--version",), ("version",)])
def test_version(arguments: tuple[str, ...]) -> None:
    assert crmd(*arguments).out == __version__ + "\n"


def test_no_command_is_wrong_usage() -> None:
    assert crmd().code == ExitCode.USAGE


def test_the_environment_names_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("[http]\nport = 1.5\n")
    done = crmd("status", environ={"CRMD_CONFIG": str(tmp_path / "odd.toml")}, cwd=tmp_path)
    assert done.code == ExitCode.CONFIG
    assert done.complaint.startswith(f"{tmp_path}/odd.toml: http.port: ")


@pytest.mark.parametrize("command", ["run", "check", "status"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[http\n", "line 1"),
        ("[htp]\n", "htp"),
        ("[daemon]\ndrain_timeout = 30\n", "daemon.drain_timeout"),
        ('[auth]\npassword = "admin123"\n', "auth.password"),
    ],
)
def test_bad_configuration_is_78_and_one_line(tmp_path: Path, command: str, text: str, key: str) -> None:
    file = tmp_path / "config.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    done = crmd(command, "--config", str(file), "--state-dir", str(tmp_path / "state"))
    assert (done.code, done.out) == (ExitCode.CONFIG, "")
    assert done.complaint.startswith(str(file))
    assert key in done.complaint
    assert not (tmp_path / "state").exists()


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = crmd("run", "--config", str(tmp_path / "nowhere.toml"))
    assert done.code == ExitCode.CONFIG
    assert str(tmp_path / "nowhere.toml") in done.complaint
