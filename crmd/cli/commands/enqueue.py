"""`crmd enqueue`: adds one job, or many from a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crmd.cli.commands.enqueue_many import enqueue_file
from crmd.cli.commands.job_check import check_job
from crmd.cli.kit.base import Command, Globals, complain, pass_globals, print_json
from crmd.cli.kit.output import as_json, clean
from crmd.cli.kit.payload import as_duration, as_instant, as_wait, read_payload
from crmd.cli.kit.session import Session, in_session
from crmd.engine.admin.requests import check_request_key
from crmd.engine.admin.views import Added, JobView, NewJob, State
from crmd.errors import ExitCode, JobNotFound, RequestError

if TYPE_CHECKING:
    from crmd.client.over_store import AsyncClient
    from crmd.jobs import Catalog


@click.command(cls=Command, options_metavar="[OPTIONS]")
@click.argument("queue")
@click.argument("job", required=False)
@click.argument("pairs", nargs=-1, metavar="[NAME=TEXT | NAME:=JSON]...")
@click.option("-d", "--data", metavar="JSON", help="The payload: a JSON object, @file, or - for standard input.")
@click.option("--delay", callback=as_duration, metavar="D", help="Start this long from now, such as 10m.")
@click.option("--at", callback=as_instant, metavar="T", help="Start at an instant, such as 2026-01-31T12:00:00Z.")
@click.option("--priority", type=click.IntRange(0, 10), default=0, help="1 (first) to 10; 0 is the normal lane.")
@click.option("--key", help="Unique key: while it is taken, no second job is added under it.")
@click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="Names this call: a repeat with the same key adds nothing and prints the same.",
)
@click.option("--wait", callback=as_wait, metavar="D", help="Wait this long for the outcome, and print it.")
@click.option("--from", "file", metavar="FILE.jsonl", help="Add one job for each line; - for standard input.")
@pass_globals
def enqueue(
    options: Globals,
    queue: str,
    job: str | None,
    pairs: tuple[str, ...],
    data: str | None,
    delay: float | None,
    at: float | None,
    priority: int,
    key: str | None,
    idempotency_key: str | None,
    wait: float | None,
    file: str | None,
) -> int:
    """Add a job to QUEUE and print its key.

    \b
    crmd enqueue notification notify message="hello" --wait 10s
    crmd enqueue message send_message to=+4915112345678 text=hi --delay 10m
    crmd enqueue message send_message --from messages.jsonl

    Each line of a --from file is a payload, or {"job", "payload", "delay", "at", "priority", "key", "unique_for"}.
    """
    if delay is not None and at is not None:
        raise click.UsageError("--delay and --at exclude each other")
    once = None if idempotency_key is None else _checked(idempotency_key)
    if file is not None:
        if any(value not in (None, (), 0) for value in (pairs, data, delay, at, priority, key, wait)):
            raise click.UsageError("with --from, everything about a job stands in its line of the file")
        return enqueue_file(options, queue, job, None if file == "-" else Path(file), once)
    if job is None:
        raise click.UsageError("Missing argument 'JOB'")
    new = NewJob(job, read_payload(data, pairs), key=key, delay=delay, at=at, priority=priority)
    # Loaded before there is a connection: on a busy machine it takes longer than the store may take to answer.
    from crmd.client.over_store import AsyncClient
    from crmd.crm.catalog import shipped_catalog

    catalog = shipped_catalog()
    catalog.load(queue)

    async def work(session: Session) -> int:
        return await _enqueue_one(session, AsyncClient.on(session.admin), catalog, options, queue, new, wait, once)

    return in_session(options, work)


def _checked(key: str) -> str:
    try:
        return check_request_key(key)
    except RequestError as error:
        raise click.UsageError(f"--idempotency-key: {error}") from None


async def _enqueue_one(
    session: Session,
    client: AsyncClient,
    catalog: Catalog,
    options: Globals,
    queue: str,
    new: NewJob,
    wait: float | None,
    once: str | None,
) -> int:
    session.require([queue])
    known = await session.admin.inspector.known_jobs(queue)
    if warning := check_job(catalog, known, session, queue, new):
        complain(f"warning: {warning}")
    [added] = await client.enqueue_many(queue, [new], idempotency_key=once)
    if added.repeated:
        complain(f"this call was made before; its job is {added.state or 'over and no longer kept'}")
    if not added.created:
        complain(f"the key {added.key} is taken; the existing job is unchanged and nothing was added")
    if wait is None:
        _print_added(options, added)
        return ExitCode.OK
    if not options.json:
        click.echo(added.key)
    try:
        view = await client.wait(queue, added.key, None if wait == math.inf else wait)
    except JobNotFound:
        if added.created and once is None:
            raise
        return await _tell_last_state(session, options, queue, added)
    except TimeoutError:
        if options.json:
            _print_added(options, added)
        complain(f"job {added.key} is not over after the time of --wait; see `crmd job {queue} {added.key}`")
        return ExitCode.WAIT_EXPIRED
    if options.json:
        print_json(view.to_json())
    else:
        click.echo(_outcome(view))
    return ExitCode.OK if view.state is State.COMPLETED else ExitCode.FAILED


async def _tell_last_state(session: Session, options: Globals, queue: str, added: Added) -> int:
    """Of a job that is over and no longer kept, and whose key, or the call's, is still taken."""
    [state] = await session.admin.inspector.states(queue, [added.key])
    if options.json:
        print_json({"key": added.key, "created": added.created, "state": state})
    else:
        click.echo(f"{state or 'over'}: the job is no longer kept")
    return ExitCode.OK if state is State.COMPLETED else ExitCode.FAILED


def _print_added(options: Globals, added: Added) -> None:
    if options.json:
        print_json({"key": added.key, "created": added.created})
    else:
        click.echo(added.key)


def _outcome(view: JobView) -> str:
    if view.state is not State.COMPLETED:
        return f"{view.state}: {clean(view.masked().error or 'no reason was given')}"
    return f"{view.state}" if view.result is None else f"{view.state} {clean(as_json(view.result))}"
