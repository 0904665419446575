"""`crmd flows`: lists flows; checks and stores the definition in a file."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmd.cli.kit.base import Globals, ListingGroup, complain, pass_globals, print_json
from crmd.cli.kit.output import show, table
from crmd.cli.kit.session import run_async
from crmd.crm.session import opened_database
from crmd.errors import ExitCode, InvalidPayload

if TYPE_CHECKING:
    from crmd.crm.flows.definition import FlowDefinition
    from crmd.crm.flows.repository import FlowView

STDIN = "-"
_MOST = 500
_FILE = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
_NAME = click.option(
    "--name", metavar="N", help="The flow's name; by default the `name` in the file, or else the file's own."
)


@click.group(cls=ListingGroup, invoke_without_command=True)
@pass_globals
@click.pass_context
def flows(context: click.Context, options: Globals) -> int:
    """List the stored flows and how many contacts are in each."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    return run_async(_list(options))


@flows.command
@_FILE
@_NAME
@pass_globals
def check(options: Globals, file: str, name: str | None) -> int:
    """Check the definition in FILE and name each step's mistakes.

    FILE is TOML or JSON; - is JSON on standard input.
    """
    definition = _checked(options, file, name)
    if definition is None:
        return ExitCode.FAILED
    if options.json:
        print_json({"name": definition[0].name, "valid": True, "errors": []})
    else:
        click.echo(f"{definition[0].name}: {len(definition[0].steps)} steps, no mistakes")
    return ExitCode.OK


@flows.command
@_FILE
@_NAME
@pass_globals
def put(options: Globals, file: str, name: str | None) -> int:
    """Check the definition in FILE and store it.

    Runs under way keep the definition that they started with.
    """
    definition = _checked(options, file, name)
    return ExitCode.FAILED if definition is None else run_async(_put(options, *definition))


async def _list(options: Globals) -> int:
    from crmd.crm.flows import repository as stored

    async with opened_database(options) as database, database.reading() as session:
        views = await stored.page(session, None, _MOST)
    if options.json:
        print_json([_json(view) for view in views])
    elif views:
        show(
            table(("flow", "starts by", "steps", "live runs", ""), map(_row, views), right=("steps", "live runs"))
        )
    else:
        complain("there are no flows; write one into a file, and put it with `crmd flows put FILE`")
    return ExitCode.OK


async def _put(options: Globals, definition: FlowDefinition, data: dict[str, Any]) -> int:
    from crmd.crm.flows import repository as stored

    async with opened_database(options) as database, database.transaction() as session:
        try:
            created = await stored.put(session, definition.name, data, enabled=definition.enabled)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    if options.json:
        print_json({"name": definition.name, "created": created})
    else:
        click.echo(f"{definition.name}: {'stored' if created else 'replaced'}")
    return ExitCode.OK


def _checked(options: Globals, file: str, name: str | None) -> tuple[FlowDefinition, dict[str, Any]] | None:
    """The definition and its JSON; None where it has mistakes, which are told."""
    from crmd.crm.flows.definition import check_flow

    data = _read(file)
    if isinstance(data, dict):
        given = name or data.get("name") or (Path(file).stem if file != STDIN else None)
        data = {**data, "name": given} if name else {"name": given, **data}
    try:
        return check_flow(data), data
    except InvalidPayload as error:
        if options.json:
            print_json({"name": name, "valid": False, "errors": error.errors or [{"reason": str(error)}]})
            return None
        for problem in error.errors:
            where = [f"step {problem['step']}" if problem["step"] else "", problem["field"], problem["reason"]]
            complain(": ".join([file, *(str(part) for part in where if part)]))
        if not error.errors:
            complain(f"{file}: {error}")
        return None


def _read(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == STDIN else Path(file).read_text(encoding="utf-8")
        return tomllib.loads(text) if file.endswith(".toml") else json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}") from None
    except ValueError as error:
        raise click.UsageError(f"{file} is not {'TOML' if file.endswith('.toml') else 'JSON'}: {error}") from None


def _json(view: FlowView) -> dict[str, Any]:
    flow = view.flow
    return {
        "name": flow.name,
        "enabled": flow.enabled,
        "start": flow.definition.get("start", {"on": "manual"}),
        "steps": len(flow.definition["steps"]),
        "live_runs": view.live_runs,
    }


def _row(view: FlowView) -> tuple[object, ...]:
    start = view.flow.definition.get("start", {})
    by = {"message": "a message"}.get(start.get("on", "manual"), "a job")
    if words := start.get("words"):
        by = f"a message with {', '.join(words)}"
    state = "" if view.flow.enabled else "disabled"
    return view.flow.name, by, len(view.flow.definition["steps"]), view.live_runs, state
