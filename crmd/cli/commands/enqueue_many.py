"""`crmd enqueue --from`: adds the jobs in a file, line by line, in batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from crmd.cli.commands.job_check import check_job
from crmd.cli.kit.base import Globals, complain, print_json
from crmd.cli.kit.output import plural, progress
from crmd.cli.kit.payload import read_line
from crmd.cli.kit.session import Session, in_session
from crmd.engine.admin.requests import STORE_OWNER, RequestKey
from crmd.engine.admin.views import NewJob
from crmd.errors import ExitCode, InvalidPayload, RequestError, UnknownJob

if TYPE_CHECKING:
    from crmd.jobs import Catalog

BATCH_JOBS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of lines after which a batch goes out: the store answers no one else while it takes one in."""

FAULTS_SHOWN = 10


def enqueue_file(options: Globals, queue: str, job: str | None, path: Path | None, once: str | None = None) -> int:
    """Adds one job for each line of a file, or of standard input, to a queue.

    With `once`, an idempotency key, what a call of before added of the same file is not added again.

    A file is checked from end to end before the first job is added; standard input and pipes cannot be.
    """
    from crmd.crm.catalog import shipped_catalog

    readable_twice = path is not None and path.is_file()

    async def work(session: Session) -> int:
        session.require([queue])
        known = await session.admin.inspector.known_jobs(queue)
        reader = _Reader(session, shipped_catalog(), known, queue, job)
        total = reader.check(path) if path and readable_twice else None
        counts = await _add(session, queue, reader.batches(path), total, once)
        _report(options, counts)
        return ExitCode.OK

    return in_session(options, work)


@dataclass(slots=True)
class _Counts:
    """What became of the jobs."""

    created: int = 0
    existing: int = 0
    """Their keys were taken."""
    repeated: int = 0
    """This call had added them before, under its idempotency key."""


class _Reader:
    """Turns lines into jobs and names the line of what is wrong."""

    def __init__(
        self, session: Session, catalog: Catalog, known: set[str] | None, queue: str, job: str | None
    ) -> None:
        self._session = session
        self._catalog = catalog
        self._known = known
        self._queue = queue
        self._job = job
        self._warned: set[str] = set()

    def check(self, path: Path) -> int:
        """How many jobs the file holds; raises RequestError after naming the first lines that are wrong."""
        count = faults = 0
        for source, line in _lines(path):
            try:
                self._read(source, line)
                count += 1
            except (click.UsageError, InvalidPayload, UnknownJob) as error:
                complain(str(error))
                faults += 1
                if faults == FAULTS_SHOWN:
                    break
        if faults:
            raise RequestError(f"{path}: nothing was added; mend the lines named above")
        return count

    def batches(self, path: Path | None) -> Iterator[list[NewJob]]:
        """The jobs, as many together as go to the store in one trip."""
        batch: list[NewJob] = []
        size = 0
        for source, line in _lines(path):
            batch.append(self._read(source, line))
            size += len(line)
            if len(batch) == BATCH_JOBS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _read(self, source: str, line: bytes) -> NewJob:
        try:
            new = read_line(line.decode(), source, self._job)
            warning = check_job(self._catalog, self._known, self._session, self._queue, new)
        except UnicodeDecodeError:
            raise click.UsageError(f"{source}: is not UTF-8") from None
        except UnknownJob as error:
            raise UnknownJob(f"{source}: {error}") from None
        except InvalidPayload as error:
            raise InvalidPayload(f"{source}: {error}", error.errors) from None
        if warning and new.job not in self._warned:
            self._warned.add(new.job)
            complain(f"warning: {source}: {warning}")
        return new


async def _add(
    session: Session, queue: str, batches: Iterator[list[NewJob]], total: int | None, once: str | None
) -> _Counts:
    counts = _Counts()
    try:
        with progress("adding", total) as advance:
            for number, batch in enumerate(batches):
                await _add_batch(session, queue, batch, None if once is None else f"{once}/{number}", counts)
                advance(len(batch))
    except BaseException:
        if counts != _Counts():
            complain(f"stopped after adding {plural(counts.created, 'job')}; they stand")
        raise
    return counts


async def _add_batch(session: Session, queue: str, batch: list[NewJob], once: str | None, counts: _Counts) -> None:
    if once is None:
        added = await session.admin.control.enqueue(queue, batch)
    else:
        added = await session.admin.control.enqueue_request(queue, batch, RequestKey(STORE_OWNER, once))
    for one in added:
        if not one.created:
            counts.existing += 1
        elif one.repeated:
            counts.repeated += 1
        else:
            counts.created += 1


def _report(options: Globals, counts: _Counts) -> None:
    if options.json:
        print_json(asdict(counts))
        return
    parts = [f"{plural(counts.created, 'job')} added"]
    if counts.repeated:
        parts.append(f"{counts.repeated} {_were(counts.repeated)} added by this call before")
    if counts.existing:
        parts.append(f"{plural(counts.existing, 'key')} {_were(counts.existing)} taken")
    click.echo("; ".join(parts))


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _lines(path: Path | None) -> Iterator[tuple[str, bytes]]:
    if path is None:
        yield from _numbered(sys.stdin.buffer, "standard input")
        return
    try:
        with path.open("rb") as file:
            yield from _numbered(file, str(path))
    except OSError as error:
        raise click.UsageError(f"--from {path}: cannot be read: {error.strerror}") from None


def _numbered(file: BinaryIO, name: str) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield f"{name}:{number}", line
