"""`crmd run`: the daemon, in the foreground."""

from __future__ import annotations

import logging
from typing import NoReturn

import click

from crmd.cli.kit.base import Command, Globals, pass_globals
from crmd.cli.kit.session import load_settings
from crmd.errors import CrmdError


@click.command(cls=Command)
@click.option("--queues", metavar="A,B", help="Run only these queues; by default all.")
@pass_globals
def run(options: Globals, queues: str | None) -> NoReturn:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C."""
    loaded = load_settings(options)
    # Loaded after the configuration is seen to be valid, as they take a while.
    from crmd.daemon.supervisor import run as run_daemon
    from crmd.telemetry import logs

    chosen = None if queues is None else _chosen(queues, list(loaded.settings.queue_settings()))
    logs.setup(loaded.settings.daemon.log_level, loaded.settings.daemon.log_format)
    try:
        run_daemon(loaded, queues=chosen, reload=lambda: load_settings(options))
    except CrmdError:
        raise
    except Exception:
        logging.getLogger("crmd").exception("the daemon ended by a fault of its own")
        raise


def _chosen(text: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = ", ".join(unknown) or repr(text)
        raise click.UsageError(f"--queues: no queue is named {what}; there are: {', '.join(known)}")
    return list(dict.fromkeys(names))
