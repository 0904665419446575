"""Credentials for HTTP: `crmd password` and `crmd token`."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Globals, Group, complain, pass_globals, print_json
from crmd.cli.kit.session import load_settings
from crmd.errors import RequestError

if TYPE_CHECKING:
    from crmd.config.load import Loaded

TOKEN_PREFIX = "crmd_"  # noqa: S105 - lets secret scanners find a leaked one
TOKEN_BYTES = 32
SCOPES = ("enqueue", "read", "operate")
DEFAULT_SCOPES = ("enqueue", "read")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@click.group(cls=Group)
def password() -> None:
    """Show or set the password of the HTTP user."""


@password.command()
@pass_globals
def show(options: Globals) -> None:
    """Print the password in force."""
    from crmd.daemon.credentials import find_password

    loaded = load_settings(options)
    found = find_password(loaded)
    if found is None or not found.configured:
        _refuse_elsewhere(loaded)
    if found is None:
        where = loaded.settings.daemon.state_dir
        raise RequestError(f"{where} holds no password yet; `crmd run` makes one, or `crmd password set`")
    if options.json:
        print_json({"username": loaded.settings.auth.username, "password": found.value, "source": found.source})
    else:
        click.echo(found.value)


@password.command("set", short_help="Store a new password in the state folder.")
@pass_globals
def set_(options: Globals) -> None:
    """Store a new password in the state folder: prompts for it, or reads a line of standard input."""
    from crmd.config.values import check_password
    from crmd.daemon.credentials import KEY, keep_password

    loaded = load_settings(options)
    if loaded.settings.auth.password.get_secret_value():
        raise RequestError(f"{KEY} is set in {loaded.sources[KEY]} and has precedence; change it there")
    _refuse_elsewhere(loaded)
    value = _ask_password()
    try:
        check_password(value)
    except ValueError as error:
        raise RequestError(f"the password {error}") from None
    kept = keep_password(loaded, value)
    complain(f"the password is kept in {kept.source}; a running daemon takes it at its next start or reload")


@click.group(cls=Group)
def token() -> None:
    """Make tokens for programs that use the HTTP API."""


@token.command(short_help="Make a token called NAME.")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What it may do; may be repeated.",
    default=DEFAULT_SCOPES, show_default=True,
)  # fmt: skip
@click.option("--queue", "queues", multiple=True, metavar="QUEUE", help="Only on this queue; may be repeated.")
@pass_globals
def new(options: Globals, name: str, scopes: tuple[str, ...], queues: tuple[str, ...]) -> None:
    """Make a token called NAME. It is shown once; the configuration gets only its hash."""
    if not _NAME.fullmatch(name):
        raise click.UsageError(f"{name!r} cannot name a token; use up to 64 letters, digits, - and _")
    made = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    digest = hashlib.sha256(made.encode()).hexdigest()
    if options.json:
        print_json({"name": name, "token": made, "sha256": digest, "scopes": scopes, "queues": queues})
        return
    complain("the first line is the token, which is not shown again; the others belong in config.toml")
    click.echo(made)
    click.echo(f'\n[auth.tokens.{name}]\nsha256 = "{digest}"\nscopes = {_toml_list(scopes)}')
    if queues:
        click.echo(f"queues = {_toml_list(queues)}")


def _refuse_elsewhere(loaded: Loaded) -> None:
    from crmd.daemon.credentials import daemon_source

    if source := daemon_source(loaded):
        raise RequestError(
            f"the daemon has its password from {source}, which this command does not see; look there"
        )


def _ask_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _toml_list(values: Iterable[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)
