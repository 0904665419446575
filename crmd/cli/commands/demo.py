"""`crmd demo`: a daemon, the sandbox, and a campaign to look at."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Command
from crmd.errors import CrmdError

if TYPE_CHECKING:
    from crmd.sandbox.demo.crm import Crm
    from crmd.sandbox.demo.folder import DemoFolder
    from crmd.sandbox.settings import Addresses

HOST = "127.0.0.1"
PREFERRED_PORTS = {"http": 8080, "sandbox": 8090, "smtp": 8025}
"""Those of the daemon and of the sandbox, where nobody else has them."""


@click.command(cls=Command)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="For state, log and files; emptied first if an earlier demo used it.",
)
@click.option("--end", is_flag=True, help="Exit when everything has been shown, without Ctrl-C.")
def demo(folder: Path, end: bool) -> None:
    """Run a separate daemon and the sandbox: an import, a flow, a campaign to 30 contacts, an export, a report.

    Nothing leaves this machine, no account is needed, and your own configuration is not read. Ctrl-C ends it.
    """
    from crmd.sandbox.demo.folder import DemoFolder

    made = DemoFolder(folder)
    made.prepare()
    asyncio.run(_run(made, end))


async def _run(folder: DemoFolder, end: bool) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked_to_end.set)
    ending = asyncio.create_task(asked_to_end.wait())
    showing = asyncio.create_task(_show(folder, end))
    try:
        await asyncio.wait({ending, showing}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()
        else:
            click.echo("\nEnding the daemon and the sandbox.")
    finally:
        for task in (ending, showing):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, CrmdError):
            await showing


async def _show(folder: DemoFolder, end: bool) -> None:
    from crmd.sandbox.demo.crm import Crm
    from crmd.sandbox.demo.story import Story
    from crmd.sandbox.server import Sandbox
    from crmd.sandbox.settings import SandboxSettings

    click.echo("Starting a daemon, and stand-ins for WhatsApp, mail, webhooks and AI …\n")
    port = _free_port(PREFERRED_PORTS["http"])
    settings = SandboxSettings(
        host=HOST,
        port=_free_port(PREFERRED_PORTS["sandbox"]),
        smtp_port=_free_port(PREFERRED_PORTS["smtp"]),
        callback_url=f"http://{HOST}:{port}/webhooks/whatsapp",
    )
    sandbox, crm = Sandbox(settings), Crm(folder, port, _say_command)
    try:
        addresses = await sandbox.start()
        folder.write_config(port, addresses, settings)
        await crm.start()
        _say_addresses(folder, crm, addresses)
        watching = asyncio.create_task(crm.ended())
        telling = asyncio.create_task(Story(crm, addresses, folder, click.echo).tell())
        try:
            await asyncio.wait({watching, telling}, return_when=asyncio.FIRST_COMPLETED)
            for task in (telling, watching):
                if task.done():
                    await task
            if not end:
                click.echo("\nThat is all. It runs until Ctrl-C: look around, and write as a user on the page.")
                await watching
        finally:
            for task in (watching, telling):
                task.cancel()
            await asyncio.wait({watching, telling})
    finally:
        await crm.stop()
        await sandbox.stop()


def _say_addresses(folder: DemoFolder, crm: Crm, addresses: Addresses) -> None:
    from crmd.daemon.banner import typed_command

    def bold(text: str) -> str:
        return click.style(text, bold=True)

    click.echo(
        f"""\
All are up. Open:

  {bold(addresses.url)}  what arrives at the stand-ins
  {bold(f"{crm.url}/admin/queues")}  the queues; user admin, password {bold(crm.password)}

  In another terminal, in this folder:
    export CRMD_CONFIG={shlex.quote(str(folder.config.absolute()))}
    {typed_command(sys.argv[0], ["status"], Path.cwd())}

  Everything of the demo is in {folder.path}; Ctrl-C ends it."""
    )


def _say_command(command: str) -> None:
    click.echo(click.style(f"    $ {command}", dim=True))


def _free_port(preferred: int) -> int:
    """The preferred port, or any free one where somebody listens there."""
    for port in (preferred, 0):
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind((HOST, port))
            return int(attempt.getsockname()[1])
    raise CrmdError(f"no port of {HOST} is free")
