"""`crmd version`."""

from __future__ import annotations

import click

from crmd.cli.kit.base import Command, Globals, pass_globals, print_json
from crmd.version import __version__


@click.command(cls=Command)
@pass_globals
def version(options: Globals) -> None:
    """Print the version."""
    if options.json:
        print_json({"version": __version__})
    else:
        click.echo(__version__)
