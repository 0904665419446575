"""The command `crmd`: all its commands under one name."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from crmd.cli.commands.access import password, token
from crmd.cli.commands.actions import cancel, clean, promote, retry
from crmd.cli.commands.check import check
from crmd.cli.commands.demo import demo
from crmd.cli.commands.enqueue import enqueue
from crmd.cli.commands.jobs import job, jobs
from crmd.cli.commands.queues import limit, pause, resume
from crmd.cli.commands.run import run
from crmd.cli.commands.sandbox import sandbox
from crmd.cli.commands.schedules import schedules
from crmd.cli.commands.status import status, workers
from crmd.cli.kit import base
from crmd.cli.kit.base import Command, Globals, Group, pass_globals, print_json
from crmd.crm import features
from crmd.version import __version__


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command line, by default the process's own, and ends the process with its exit code."""
    sys.exit(base.run(root(), arguments))


def root() -> click.Group:
    """The command `crmd` itself."""
    group = Group(
        "crmd",
        help=f"crmd {__version__}: background jobs on Redis or an embedded Valkey.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.params.append(_version_option())
    commands: tuple[click.Command, ...] = (run, check, status, enqueue, jobs, job, retry, cancel, promote, clean)
    commands += (
        pause,
        resume,
        limit,
        schedules,
        *features.commands(),
        workers,
        password,
        token,
        sandbox,
        demo,
        version,
    )
    for command in commands:
        group.add_command(command)
    return group


@click.command(cls=Command)
@pass_globals
def version(options: Globals) -> None:
    """Print the version."""
    if options.json:
        print_json({"version": __version__})
    else:
        click.echo(__version__)


def _version_option() -> click.Option:
    def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(__version__)
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print the version."
    )
