"""Prints what was measured, and keeps it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bench.bars import MeasuredBar, measured_bars
from bench.model import Column, Figures, Measure, Rounds
from bench.nodejs import PACKAGES
from bench.peers import Peers
from crmd.embedded.binary import find_server

RESULTS = Path(__file__).parent / "results"


def print_measure(measure: Measure, rounds: Rounds) -> None:
    """One table: medians, and of the first column the least and the most."""
    print(f"\n{measure.title}")
    rows = [["", *_headings(measure.columns)]]
    rows += [[subject, *_cells(measure.columns, runs)] for subject, runs in rounds.items()]
    print_table(rows)


def print_bars(rounds: Mapping[str, Rounds]) -> bool:
    """The list of bars; whether all are met."""
    bars = measured_bars(rounds)
    rows = [["bar", "wanted", "measured", "(rounds)", ""]]
    rows += [_bar_row(one) for one in bars]
    print()
    print_table(rows)
    return all(one.met for one in bars)


def print_table(rows: list[list[str]]) -> None:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
        ]
        print("  " + "  ".join(cells).rstrip())


def save(rounds: Mapping[str, Rounds], peers: Peers) -> Path:
    """Writes all rounds and the bars as JSON; returns the file."""
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "processors": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "store": str(find_server()),
            "packages": PACKAGES if not peers.skipped else {},
        },
        "skipped": peers.skipped,
        "rounds": rounds,
        "bars": [asdict(one) | {"verdict": _met(one)} for one in measured_bars(rounds)],
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return file


def _headings(columns: tuple[Column, ...]) -> list[str]:
    first, *rest = (column.heading for column in columns)
    return [first, "(rounds)", *rest]


def _cells(columns: tuple[Column, ...], runs: list[Figures]) -> list[str]:
    first, *rest = columns
    return [_middle(first, runs), _spread(first, runs), *(_middle(column, runs) for column in rest)]


def _middle(column: Column, runs: list[Figures]) -> str:
    values = [run[column.name] for run in runs if column.name in run]
    return f"{statistics.median(values):,.{column.digits}f}" if values else "-"


def _spread(column: Column, runs: list[Figures]) -> str:
    values = [run[column.name] for run in runs]
    return f"({min(values):,.{column.digits}f} to {max(values):,.{column.digits}f})"


def _bar_row(one: MeasuredBar) -> list[str]:
    bar = one.bar
    wanted = f"{'<=' if bar.at_most else '>='} {bar.limit:g}" + (f" (aim {bar.aim:g})" if bar.aim else "")
    return [bar.text, wanted, f"{one.value:.2f}", f"({one.least:.2f} to {one.most:.2f})", _met(one)]


def _met(one: MeasuredBar) -> str:
    return "met" if one.met else "MISSED"
