"""The command line: options, errors, output, `crmd check`, payloads that people type, and whole processes."""

from __future__ import annotations

import asyncio
import gc
import math
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from crmd import __version__
from crmd.cli.kit import base, output, payload
from crmd.cli.kit.base import Command, Globals, Group, pass_globals
from crmd.cli.kit.session import run_async
from crmd.cli.main import root
from crmd.engine.admin.views import NewJob
from crmd.errors import ConfigError, ExitCode, Problem, StoreUnavailable
from tests.support.cli import Cli, cli, crmd


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


# Output


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.045, "45ms"),
        (3.21, "3.2s"),
        (45, "45s"),
        (60, "1m"),
        (320, "5m 20s"),
        (7200, "2h"),
        (86400 * 2 + 3600 * 4 + 59, "2d 4h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [(None, "-"), (0.0, "-"), (NOW, "now"), (NOW - 90, "1m 30s ago"), (NOW + 7200, "in 2h")],
)
def test_relative_instants(at: float | None, text: str) -> None:
    assert output.relative(at, lambda: NOW) == text


def test_moment_shows_local_time_with_its_offset() -> None:
    assert output.moment(NOW - 60, lambda: NOW).endswith("(1m ago)")
    assert output.moment(None) == "-"


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert output.clean("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb c\ufffdd"


def test_piped_tables_are_plain_and_uncut() -> None:
    long = "x" * 300
    made = output.table(("name", "count"), [("[bold]a[/bold]", 5), (long, 12), (None, 1)], right=("count",))
    lines = output.to_text(made).splitlines()
    assert lines[0].split() == ["name", "count"]
    assert lines[1].split() == ["[bold]a[/bold]", "5"]
    assert lines[2].split() == [long, "12"]
    assert lines[3].split() == ["-", "1"]
    assert all(line == line.rstrip() for line in lines)


# Payloads


def test_pairs_are_texts_or_json() -> None:
    pairs = ["to=491511", "text=a=b", "count:=3", 'tags:=["x"]', "empty=", "ratio:=-0.5"]
    assert payload.read_payload(None, pairs) == {
        "to": "491511",
        "text": "a=b",
        "count": 3,
        "tags": ["x"],
        "empty": "",
        "ratio": -0.5,
    }


def test_pairs_lie_over_the_data() -> None:
    assert payload.read_payload('{"a": 1, "b": 2}', ["b=x"]) == {"a": 1, "b": "x"}


def test_data_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"text": "grüße"}')
    assert payload.read_payload(f"@{tmp_path}/p.json", []) == {"text": "grüße"}


@pytest.mark.parametrize(
    ("data", "pairs", "message"),
    [
        ("[1]", [], "-d: a payload is a JSON object {…}, this is a list"),
        ('{"a": ', [], "-d: is not JSON at line 1 column 7"),
        ('{"a": NaN}', [], "-d: is not JSON: NaN is not a JSON number"),
        ("[" * 100_000, [], "-d: is nested too deeply"),
        ("@/nowhere/p.json", [], "No such file"),
        (None, ["text"], "'text' is not part of a payload; write name=text"),
        (None, ["=x"], "'=x' is not part of a payload"),
        (None, ["n:=3x"], "n:=: is not JSON at line 1 column 2"),
    ],
)
def test_wrong_payloads(data: str | None, pairs: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        payload.read_payload(data, pairs)
    assert message in caught.value.format_message()


def test_a_line_is_a_payload_or_a_whole_job() -> None:
    assert payload.read_line('{"to": "1", "key": "k"}', "f:1", "send") == NewJob("send", {"to": "1", "key": "k"})
    assert payload.read_line('{"payload": {"to": "1"}, "key": "k"}', "f:1", "send") == NewJob(
        "send", {"to": "1"}, key="k"
    )
    line = '{"job": "a", "delay": "1m", "priority": 2, "unique_for": "1h"}'
    assert payload.read_line(line, "f:1", None) == NewJob("a", delay=60.0, priority=2, unique_for=3600.0)
    line = '{"job": "a", "at": "2030-01-31T12:00:00Z"}'
    assert payload.read_line(line, "f:1", None).at == datetime(2030, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "f:7: is not JSON at line 1 column 1"),
        ('{"to": "1"}', "f:7: says no job"),
        ('{"job": "a", "payload": []}', "f:7: payload is a list, not an object"),
        ('{"job": "a", "delay": 5}', 'f:7: 5 has no unit; write "5s"'),
        ('{"job": "a", "unique_for": "366d"}', "f:7: unique_for is longer than 365 days"),
        ('{"job": "a", "at": "tomorrow"}', "f:7: 'tomorrow' is not a time"),
        ('{"job": "a", "at": 5}', "f:7: 5 is not a time"),
        ('{"job": "a", "priority": true}', "f:7: priority is true or false"),
        ('{"job": "a", "key": 7}', "f:7: key is a number"),
        ('{"job": null, "payload": {}}', "f:7: says no job"),
    ],
)
def test_wrong_lines_are_named(line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        payload.read_line(line, "f:7", None)
    assert message in caught.value.format_message()


def test_waits_may_be_endless() -> None:
    context, option = click.Context(click.Command("x")), click.Option(["--wait"])
    assert payload.as_wait(context, option, "none") == math.inf
    assert payload.as_wait(context, option, "10s") == 10
    assert payload.as_wait(context, option, None) is None
    with pytest.raises(click.BadParameter, match="has no unit"):
        payload.as_wait(context, option, "10")


# `crmd check`


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


# Processes


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
