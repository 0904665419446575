"""What frames every command: global options before or after it, and errors on one line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from crmd.cli.kit.output import clean
from crmd.errors import ConfigError, CrmdError, ExitCode

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

PIPE_CLOSED = 141
"""Exit code where the reader of our output left, as shells have it: 128 + SIGPIPE."""


@dataclass
class Globals:
    """The options that every command takes."""

    config: Path | None = None
    json: bool = False
    state_dir: Path | None = None

    def overrides(self) -> dict[str, Any]:
        """The options that are settings, by dotted key."""
        return {} if self.state_dir is None else {"daemon.state_dir": str(self.state_dir)}


pass_globals = click.make_pass_decorator(Globals, ensure=True)


class Command(click.Command):
    """A command that also takes the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


class Group(click.Group):
    """A group whose commands, and which itself, take the global options."""

    command_class = Command
    group_class = type  # groups inside are of this class too

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **kwargs})
        self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Shows the help where no command is given, as wrong usage."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which they were added."""
        return list(self.commands)


class ListingGroup(Group):
    """A group that lists where no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; none are fine."""
        return click.Group.parse_args(self, ctx, args)


def global_options() -> list[click.Option]:
    """`--config`, `--json`, `--state-dir`; they leave their value in `Globals`."""
    file = click.Path(path_type=Path)
    return [
        click.Option(["--config"], type=file, expose_value=False, callback=_keep, help="The config.toml to use."),
        click.Option(
            ["--state-dir"], type=file, expose_value=False, callback=_keep, help="The daemon's state folder."
        ),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_keep, help="Print JSON."),
    ]


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value:
        setattr(context.ensure_object(Globals), str(option.name), value)


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Runs a command line and returns the exit code; every error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # text from jobs may not fit the terminal's encoding
    try:
        code = _invoke(command, sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as request:
        return request.exit_code
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        complain(_usage(error))
        return error.exit_code
    except ConfigError as error:
        for problem in error.problems:
            complain(str(problem))
        return error.exit_code
    except CrmdError as error:
        complain(str(error))
        return error.exit_code
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m crmd shows the traceback
            raise
        complain(f"unexpected {type(error).__name__}: {error}; please report it with the command you typed")
        return ExitCode.FAILED


def _invoke(command: click.Command, arguments: list[str]) -> int:
    if "_CRMD_COMPLETE" in os.environ:  # a shell asks for completion: click's own main answers
        command.main(arguments, prog_name="crmd")
    with command.make_context("crmd", list(arguments)) as context:
        result = command.invoke(context)
    return result if isinstance(result, int) else ExitCode.OK


def complain(message: str) -> None:
    """One line on standard error."""
    click.echo("crmd: " + clean(" ".join(message.split())), err=True)


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError):
        return f"{message}; see `{error.ctx.command_path if error.ctx else 'crmd'} --help`"
    return message


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented on a terminal and one line else."""
    indent = 2 if sys.stdout.isatty() else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    click.echo(text if text.isprintable() else "".join(map(_escaped, text)))


def _escaped(character: str) -> str:
    """A character as it stands in JSON for a terminal: JSON itself leaves C1 controls and marks of direction."""
    return character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
