"""Acts on many jobs: shows how many and which, asks, then goes through them in bounded batches."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from crmd.cli.kit.base import Globals, complain, print_json
from crmd.cli.kit.output import as_json, clean, plural, progress, shorten
from crmd.cli.kit.session import Session
from crmd.engine.admin.views import JobView, State
from crmd.engine.durations import Rate
from crmd.errors import ExitCode, JobNotFound, RequestError

if TYPE_CHECKING:
    from crmd.engine.admin.control import Control

BATCH_JOBS = 50
"""Jobs acted on at the same time."""

LOOKUP_JOBS = 1_000
"""Keys looked up in one go."""

SAMPLES = 5
SAMPLE_LENGTH = 100


Act = Callable[["Control", str, str], Awaitable[JobView | None]]


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done to a job."""

    verb: str
    done: str
    states: tuple[State, ...]
    """The states that a filter may ask for."""
    act: Act
    """On a job that was named."""
    act_on_found: Act | None = None
    """On one that a filter found; None: the same."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs of a queue are meant: all in a state, and of those the ones that hold a text."""

    queue: str
    state: State
    search: str | None
    rate: Rate | None
    """How fast to go through them; None for as fast as the store takes it."""


async def by_filter(session: Session, options: Globals, action: Action, selection: Selection, yes: bool) -> int:
    """Acts on all jobs of a selection, after asking unless `yes`."""
    session.require([selection.queue])
    keys = await _lookup(session, selection)
    count = await _count(session, selection, keys)
    if keys and not yes:
        await _show_samples(session, selection, keys, count)
        _confirm(action, count)
    done, skipped = await _Pass(session, action, selection).all(count) if keys else (0, 0)
    if options.json:
        print_json({"done": done, "skipped": skipped})
    else:
        rest = f"; {skipped} had changed their state meanwhile" if skipped else ""
        click.echo(f"{plural(done, 'job')} {action.done}{rest}" if keys else "no job matches")
    return ExitCode.OK


class _Pass:
    """One pass through a selection."""

    def __init__(self, session: Session, action: Action, selection: Selection) -> None:
        self._session = session
        self._action = action
        self._selection = selection
        self._seen: set[str] = set()
        self._done = 0
        self._skipped = 0

    async def all(self, count: int | None) -> tuple[int, int]:
        """Acts until nothing new matches, or as many are through as were announced; returns done and skipped.

        What fails again while this runs is not taken twice.
        """
        try:
            with progress(self._action.verb, count) as advance:
                while batch := await self._next(count):
                    await self._act(batch)
                    advance(len(batch))
        except BaseException:
            complain(f"stopped after {plural(self._done, 'job')} {self._action.done}")
            raise
        return self._done, self._skipped

    async def _next(self, count: int | None) -> list[str]:
        keys = [key for key in await _lookup(self._session, self._selection) if key not in self._seen]
        return keys if count is None else keys[: max(0, count - len(self._seen))]

    async def _act(self, keys: list[str]) -> None:
        rate = self._selection.rate
        size = BATCH_JOBS if rate is None else 1
        pause = 0.0 if rate is None else rate.period_seconds / rate.count
        for start in range(0, len(keys), size):
            await asyncio.gather(*map(self._one, keys[start : start + size]))
            await asyncio.sleep(pause)

    async def _one(self, key: str) -> None:
        self._seen.add(key)
        act = self._action.act_on_found or self._action.act
        try:
            await act(self._session.admin.control, self._selection.queue, key)
        except RequestError:
            self._skipped += 1
        else:
            self._done += 1


async def _lookup(session: Session, selection: Selection) -> list[str]:
    return await session.admin.control.matching(selection.queue, selection.state, selection.search, LOOKUP_JOBS)


async def _count(session: Session, selection: Selection, keys: list[str]) -> int | None:
    """How many jobs are meant; None where that would take reading all of them."""
    if len(keys) < LOOKUP_JOBS:
        return len(keys)
    if selection.search is not None:
        return None
    counts = await session.admin.inspector.counts(selection.queue)
    unknown = counts.unknown if selection.state is State.FAILED else 0  # counted there, not meant here
    return int(getattr(counts, selection.state)) - unknown


async def _show_samples(session: Session, selection: Selection, keys: list[str], count: int | None) -> None:
    what = f"{selection.state} job"
    number = f"{LOOKUP_JOBS} or more {what}s" if count is None else plural(count, what)
    click.echo(f"{number} of {selection.queue}:", err=True)
    for key in keys[:SAMPLES]:
        try:
            view = (await session.admin.inspector.job(selection.queue, key)).masked()
        except JobNotFound:
            continue
        detail = view.error or as_json(view.payload)
        click.echo(f"  {clean(key)}  {clean(view.job)}  {shorten(clean(detail), SAMPLE_LENGTH)}", err=True)
    if len(keys) > SAMPLES:
        click.echo("  …", err=True)


def _confirm(action: Action, count: int | None) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: add --yes")
    what = "all of them" if count is None or count > 1 else "it"
    if not click.confirm(f"{action.verb.capitalize()} {what}?", err=True):
        raise RequestError("nothing was done")
