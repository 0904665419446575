"""The frame of the command line: where options may stand, and one line for each error."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from crmd.cli.kit import base
from crmd.cli.kit.base import Command, Globals, Group, pass_globals
from crmd.cli.kit.session import run_async
from crmd.errors import ConfigError, ExitCode, Problem, StoreUnavailable


def a_group(error: BaseException | None = None) -> tuple[click.Group, list[Globals]]:
    seen: list[Globals] = []
    group = Group("crmd")

    @click.command("do", cls=Command)
    @click.argument("what")
    @pass_globals
    def do(options: Globals, what: str) -> int:
        seen.append(options)
        if error is not None:
            raise error
        return 3

    inner = Group("inner")
    inner.add_command(do)
    group.add_command(do)
    group.add_command(inner)
    return group, seen


@pytest.mark.parametrize(
    "line",
    [
        "--config a.toml --json --state-dir s do x",
        "do x --config a.toml --json --state-dir s",
        "--json do --state-dir s x --config a.toml",
        "--config b.toml inner --json do x --config a.toml --state-dir s",
    ],
)
def test_global_options_stand_before_or_after_the_command(line: str) -> None:
    group, seen = a_group()
    assert base.run(group, line.split()) == 3
    assert seen == [Globals(config=Path("a.toml"), json=True, state_dir=Path("s"))]
    assert seen[0].overrides() == {"daemon.state_dir": "s"}


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (StoreUnavailable("the store\nis unavailable"), 69, ["crmd: the store is unavailable"]),
        (
            ConfigError([Problem("a.toml", "http.port", "is no port"), Problem("environment", "CRMD_X", "odd")]),
            78,
            ["crmd: a.toml: http.port: is no port", "crmd: environment: CRMD_X: odd"],
        ),
        (click.UsageError("wrong."), 2, ["crmd: wrong; see `crmd do --help`"]),
        (KeyboardInterrupt(), 130, []),
        (
            RuntimeError("odd"),
            1,
            ["crmd: unexpected RuntimeError: odd; please report it with the command you typed"],
        ),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    group, _ = a_group(error)
    assert base.run(group, ["do", "x"]) == code
    output = capsys.readouterr()
    assert (output.out, output.err.splitlines()) == ("", lines)


@pytest.mark.parametrize("line", ["do", "do x --what", "nonsense", "do x y", "--config"])
def test_wrong_usage_is_one_line_and_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    group, _ = a_group()
    assert base.run(group, line.split()) == ExitCode.USAGE
    (complaint,) = capsys.readouterr().err.splitlines()
    assert complaint.startswith("crmd: ")
    assert "--help`" in complaint


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    group, _ = a_group()
    assert base.run(group, []) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import click, sys\n"
        "from crmd.cli.kit import base\n"
        "def talk():\n"
        "    while True: click.echo('x' * 1000)\n"
        "sys.exit(base.run(click.Command('talk', callback=talk), []))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == base.PIPE_CLOSED


def test_ctrl_c_in_any_task_is_told_by_nobody_but_the_command(caplog: pytest.LogCaptureFixture) -> None:
    async def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    async def work() -> None:
        await asyncio.gather(interrupted(), asyncio.sleep(60))

    with pytest.raises(KeyboardInterrupt):
        run_async(work())
    gc.collect()
    assert caplog.text == ""


def test_a_task_that_fails_unseen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        task = asyncio.ensure_future(failing())
        await asyncio.wait([task])

    run_async(main())
    gc.collect()
    assert "unseen" in caplog.text
