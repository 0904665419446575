"""How values are shown to people: tables, ages, text from anywhere."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

PIPED_WIDTH = 100_000
"""Columns of a table that goes into a pipe: nothing is cut or wrapped."""

NOTHING = "-"

_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> Table:
    """A plain table; columns named in `right` hold numbers."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        made.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(NOTHING if cell is None else str(cell))) for cell in row))
    return made


def show(rendered: Table) -> None:
    """Prints a table: with colour and as wide as the terminal, or plain and uncut into a pipe."""
    click.echo(to_text(rendered), nl=False)


def to_text(rendered: Table) -> str:
    """The table as text for standard output, without blanks at the ends of lines."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    buffer = io.StringIO()
    width = shutil.get_terminal_size().columns if terminal else PIPED_WIDTH
    Console(file=buffer, width=width, force_terminal=terminal, highlight=False).print(rendered)
    return "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error where that is a terminal; gives a function that adds to it."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def clean(text: str) -> str:
    """The text without control characters, which could play tricks on a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" if c not in "\n\t" else " " for c in text)


def as_json(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def plural(count: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shorten(text: str, length: int) -> str:
    """The text, cut to this many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def duration(seconds: float | None) -> str:
    """Roughly how long, in at most two units: `45ms`, `3.2s`, `5m 20s`, `2d 4h`."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for (step, unit), (smaller, smaller_unit) in itertools.pairwise(_STEPS):
        if seconds >= step:
            whole, rest = divmod(int(seconds), int(step))
            parts = rest // int(smaller)
            return f"{whole}{unit} {parts}{smaller_unit}" if parts else f"{whole}{unit}"
    return f"{seconds:.0f}s"


def relative(at: float | None, now: Callable[[], float] = time.time) -> str:
    """An instant (epoch seconds) as people say it: `5m 20s ago`, `in 2h`, `now`."""
    if not at:
        return NOTHING
    distance = now() - at
    if abs(distance) < 1:
        return "now"
    return f"{duration(distance)} ago" if distance > 0 else f"in {duration(-distance)}"


def moment(at: float | None, now: Callable[[], float] = time.time) -> str:
    """An instant in local time and relative to now."""
    if not at:
        return NOTHING
    local = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({relative(at, now)})"
