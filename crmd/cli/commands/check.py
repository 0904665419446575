"""`crmd check`: every mistake in the configuration at once, or every setting in force with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Command, Globals, complain, pass_globals, print_json
from crmd.cli.kit.output import show, table
from crmd.cli.kit.session import load_settings
from crmd.errors import ConfigError, ExitCode, Problem

if TYPE_CHECKING:
    from crmd.config.load import Loaded


@click.command(cls=Command)
@pass_globals
def check(options: Globals) -> int:
    """Validate the configuration; print its problems, or the settings in force with their sources."""
    try:
        loaded = load_settings(options)
        problems = _problems(loaded)
    except ConfigError as error:
        loaded, problems = None, error.problems
    for problem in problems:
        complain(str(problem))
    if options.json:
        print_json(_as_json(loaded, problems))
    elif loaded is not None and not problems:
        _show(loaded)
    return ExitCode.CONFIG if problems else ExitCode.OK


def _problems(loaded: Loaded) -> list[Problem]:
    """What load() cannot see: handlers that cannot be imported, clients that cannot be made, no password."""
    from crmd.daemon.build import build_catalog
    from crmd.daemon.credentials import missing_password
    from crmd.daemon.resources import Resources

    problems = []
    for build in (build_catalog, Resources().make):
        try:
            build(loaded)
        except ConfigError as error:
            problems += error.problems
    missing = missing_password(loaded)
    return [*problems, missing] if missing else problems


def _show(loaded: Loaded) -> None:
    from crmd.config.render import render_effective

    click.echo(f"# {loaded.path or 'no config.toml was found: built-in defaults'}: valid")
    show(table(("key", "value", "source"), render_effective(loaded)))


def _as_json(loaded: Loaded | None, problems: list[Problem]) -> dict[str, object]:
    from crmd.config.render import render_effective

    rows = render_effective(loaded) if loaded else []
    return {
        "valid": not problems,
        "path": str(loaded.path) if loaded and loaded.path else None,
        "problems": [{"source": one.source, "key": one.key, "reason": one.reason} for one in problems],
        "warnings": loaded.warnings if loaded else [],
        "settings": [{"key": row.key, "value": row.value, "source": row.source} for row in rows],
    }
