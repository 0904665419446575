"""The command `crmd`: all its commands under one name, each imported when it is typed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NoReturn

import click

from crmd.cli.kit import base
from crmd.cli.kit.late import LateGroup
from crmd.crm import features
from crmd.version import __version__

COMMANDS: Mapping[str, str] = {
    "crmd.cli.commands.run:run": "Run the daemon in the foreground.",
    "crmd.cli.commands.check:check": "Validate the configuration and show it.",
    "crmd.cli.commands.status:status": "Show the live daemons and what each queue holds.",
    "crmd.cli.commands.enqueue:enqueue": "Add a job to QUEUE and print its key.",
    "crmd.cli.commands.jobs:jobs": "List the jobs of QUEUE.",
    "crmd.cli.commands.jobs:job": "Show everything about one job.",
    "crmd.cli.commands.actions:retry": "Run failed, cancelled or unknown jobs again.",
    "crmd.cli.commands.actions:cancel": "Cancel waiting, delayed or active jobs.",
    "crmd.cli.commands.actions:promote": "End the delay of delayed jobs.",
    "crmd.cli.commands.actions:clean": "Delete jobs that are not active.",
    "crmd.cli.commands.queues:pause": "Start no more jobs of QUEUE; running ones continue.",
    "crmd.cli.commands.queues:resume": "Start jobs of QUEUE again.",
    "crmd.cli.commands.queues:limit": "Set the rate limit of QUEUE on all daemons.",
    "crmd.cli.commands.schedules:schedules": "List schedules; run, pause or resume one.",
    **features.commands(),
    "crmd.cli.commands.status:workers": "List the live daemons.",
    "crmd.cli.commands.access:password": "Show or set the password of the HTTP user.",
    "crmd.cli.commands.access:token": "Make tokens for programs that use the HTTP API.",
    "crmd.cli.commands.sandbox:sandbox": "Run local stand-ins for WhatsApp, mail, webhooks and AI.",
    "crmd.cli.commands.demo:demo": "Show everything at work, on local stand-ins.",
    "crmd.cli.commands.version:version": "Print the version.",
}
"""By `"module:name"`, and called by that name: the line that `crmd --help` has for it."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command line, by default the process's own, and ends the process with its exit code."""
    sys.exit(base.run(root(), arguments))


def root() -> click.Group:
    """The command `crmd` itself."""
    group = LateGroup(
        "crmd",
        COMMANDS,
        help=f"crmd {__version__}: background jobs on Redis or an embedded Valkey.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.params.append(_version_option())
    return group


def _version_option() -> click.Option:
    def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(__version__)
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print the version."
    )
