"""`crmd sandbox`: local stand-ins for outside services."""

from __future__ import annotations

import asyncio
import shlex
import signal
from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Command, Globals, pass_globals, print_json

if TYPE_CHECKING:
    from crmd.sandbox.settings import Addresses, SandboxSettings

_SHARE = click.FloatRange(0, 1)


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="HTTP port; 0: any.")
@click.option(
    "--smtp-port", type=click.IntRange(0, 65_535), default=8025, show_default=True, help="Mail port; 0: any."
)
@click.option(
    "--callback",
    default="http://127.0.0.1:8080/webhooks/whatsapp",
    show_default=True,
    help='Where to post statuses and inbound messages, or "none".',
)
@click.option(
    "--throughput", type=click.IntRange(1, 1000), default=80, show_default=True, help="Messages a second."
)
@click.option("--read-share", type=_SHARE, default=0.7, show_default=True, help="Share of messages read.")
@click.option("--failed-share", type=_SHARE, default=0.04, show_default=True, help="Share that fail later.")
@click.option("--service-window", is_flag=True, help="Fail free-form messages outside the 24-hour service window.")
@click.option("--exports", is_flag=True, help="Print the environment that points crmd at it, and exit.")
@pass_globals
def sandbox(
    options: Globals,
    host: str,
    port: int,
    smtp_port: int,
    callback: str,
    throughput: int,
    read_share: float,
    failed_share: float,
    service_window: bool,
    exports: bool,
) -> None:
    """Run local stand-ins for WhatsApp's Cloud API, a mail server, a webhook receiver and an AI service.

    A page shows what arrives. Nothing leaves this machine. Ends with SIGTERM or Ctrl-C.
    """
    from crmd.sandbox.settings import Addresses, SandboxSettings

    settings = SandboxSettings(
        host=_address(host),
        port=port,
        smtp_port=smtp_port,
        callback_url=_callback(callback),
        messages_per_second=throughput,
        read_share=read_share,
        failed_share=failed_share,
        service_window=service_window,
    )
    if exports:
        if not port or not smtp_port:
            raise click.UsageError("--exports needs ports that are known beforehand, not 0")
        _print_exports(Addresses.of(settings, port, smtp_port).environment(settings))
        return
    from crmd.telemetry import logs

    logs.setup("info", "auto")
    asyncio.run(_serve(settings, options.json))


async def _serve(settings: SandboxSettings, as_json: bool) -> None:
    from crmd.sandbox.server import Sandbox

    made = Sandbox(settings)
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked_to_end.set)
    try:
        addresses = await made.start()
        _print_addresses(addresses, settings, as_json)
        await asked_to_end.wait()
    finally:
        await made.stop()


def _print_addresses(addresses: Addresses, settings: SandboxSettings, as_json: bool) -> None:
    from crmd.sandbox.settings import toml_lines

    smtp = f"{addresses.host}:{addresses.smtp_port}"
    if as_json:
        print_json(
            {
                "url": addresses.url,
                "smtp": smtp,
                "hooks": addresses.hooks_url,
                "callback": settings.callback_url,
                "environment": addresses.environment(settings),
            }
        )
        return
    click.echo(
        f"""\
The sandbox is up. What arrives is shown at {click.style(addresses.url, bold=True)}

  WhatsApp's Cloud API   {addresses.url}
  AI, as OpenAI speaks   {addresses.url}/v1
  Webhook receiver       {addresses.hooks_url}
  Notifications          {addresses.url}/notify
  Mail, by SMTP          {smtp}
  WhatsApp's webhooks go to {settings.callback_url or "nobody"}

In config.toml:
"""
    )
    for line in toml_lines(addresses.configuration(settings)):
        click.echo(f"  {line}" if line else "")
    click.echo('\nOr by the environment: eval "$(crmd sandbox --exports)" with the same ports. Ctrl-C ends it.')


def _print_exports(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise click.UsageError(f"--host must be an IP address, not {text!r}") from None


def _callback(text: str) -> str | None:
    if text == "none":
        return None
    if not text.startswith(("http://", "https://")):
        raise click.UsageError(f'--callback must be a URL or "none", not {text!r}')
    return text
