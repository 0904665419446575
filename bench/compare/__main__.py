"""`make compare REV=...`: the checked-out code beside another commit, on one redis-server, in alternating pairs.

Both run as a real `crmd run`, each with its own packages. A pair is one run of each, right after one another,
the other one first in every second pair. What is judged is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.compare.workloads import LOAD, TITLES, Contender, Workload, all_workloads
from bench.daemon import Program
from bench.model import Figures
from bench.report import RESULTS, print_table
from bench.revision import VERSION_0_1_0, RevisionUnknown, find_revision
from bench.server import bench_server
from bench.testbed import Testbed
from bench.trial import PROJECT, TrialFailed

PAIRS = 9
CPU_BAR, P99_BAR = 1.05, 1.25
FIGURES = {
    "own_us": ("CPU us/job", 1),
    "store_us": ("store CPU us/job", 1),
    "rate": ("jobs/s", 0),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "trips": ("trips/job", 3),
    "others": ("other CPUs", 2),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """One run of each revision."""

    old: Figures
    new: Figures

    def ratio(self, figure: str) -> float:
        """New by old."""
        return self.new[figure] / self.old[figure] if self.old[figure] else float("nan")


def main() -> int:
    """Compares, prints, keeps a file; 1 when a bar is missed."""
    arguments = _arguments()
    began = time.monotonic()
    old, new = _contender(arguments.revision), _contender(arguments.new)
    print(f"old: {old.name}\nnew: {new.name}")
    chosen = {
        name: run
        for name, run in all_workloads(arguments.size).items()
        if not arguments.only or name in arguments.only
    }
    bars = {"own_us": arguments.cpu, "store_us": arguments.cpu, "p99_ms": arguments.p99}
    pairs: dict[str, list[Pair]] = {}
    met = True
    with bench_server(arguments.server) as url:
        testbed = Testbed(url)
        for name, run in chosen.items():
            pairs[name] = _run_pairs(testbed, name, run, old, new, arguments.pairs)
            met &= _print_workload(name, pairs[name], bars)
        testbed.close()
    file = _save(old, new, pairs, bars)
    print(f"\n{time.monotonic() - began:.0f} s; all runs are in {file}")
    print("no slower" if met else "SLOWER: a bar is missed")
    return 0 if met else 1


def _arguments() -> argparse.Namespace:
    def share(text: str) -> float:
        value = float(text)
        if not 0 < value <= 10:
            raise argparse.ArgumentTypeError("a share of the full number of jobs, above 0")
        return value

    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("revision", nargs="?", default=VERSION_0_1_0, help="the older commit (%(default)s, which is 0.1.0)")
    add("--new", metavar="REV", help="a commit in place of the checked-out code")
    add("--pairs", type=int, default=PAIRS, help="runs of each (%(default)s)")
    add("--size", type=share, default=1.0, help="share of the full number of jobs, such as 0.3")
    add("--only", metavar="NAME", action="append", choices=TITLES, help=f"of {', '.join(TITLES)}; several times")
    add("--cpu", type=float, default=CPU_BAR, help="CPU per job may be so many times the old (%(default)s)")
    add("--p99", type=float, default=P99_BAR, help="the pickup's p99 may be so many times the old (%(default)s)")
    add("--server", type=Path, default=_redis_server(), help="the server's program (%(default)s)")
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error("--pairs: at least 1")
    return arguments


def _redis_server() -> Path | None:
    """None, the embedded store's program, where it is not installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def _contender(revision: str | None) -> Contender:
    environ = {"PYTHONPATH": str(LOAD)}
    if revision is None:
        return Contender("the checked-out code", Program(Path(sys.executable), PROJECT, environ))
    try:
        found = find_revision(revision)
    except RevisionUnknown as error:
        sys.exit(str(error))
    print(f"preparing {revision}", file=sys.stderr)
    return Contender(found.commit[:12], Program(found.python(), found.source(), environ))


def _run_pairs(
    testbed: Testbed, name: str, run: Workload, old: Contender, new: Contender, count: int
) -> list[Pair]:
    pairs = []
    for number in range(count):
        print(f"  {name}: pair {number + 1} of {count}", file=sys.stderr, flush=True)
        order = (old, new) if number % 2 == 0 else (new, old)
        try:
            found = {contender.name: run(testbed, contender) for contender in order}
        except TrialFailed as error:
            sys.exit(str(error))
        pairs.append(Pair(found[old.name], found[new.name]))
    return pairs


def _print_workload(name: str, pairs: Sequence[Pair], bars: Mapping[str, float]) -> bool:
    """One table; whether it keeps its bars."""
    print(f"\n{name}: {TITLES[name]}")
    rows = [["", "old", "new", "new/old", "worst pair", "at most", ""]]
    met = True
    for figure, (heading, digits) in FIGURES.items():
        if figure not in pairs[0].old:
            continue
        old, new = (statistics.median(one[figure] for one in side) for side in _sides(pairs))
        row = [heading, f"{old:,.{digits}f}", f"{new:,.{digits}f}"]
        if figure != "others":
            ratios = [pair.ratio(figure) for pair in pairs]
            median = statistics.median(ratios)
            worst = min(ratios) if figure == "rate" else max(ratios)
            row += [f"{median:.3f}", f"{worst:.3f}"]
            if bar := bars.get(figure):
                kept = median <= bar
                met &= kept
                row += [f"{bar:g}", "met" if kept else "MISSED"]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    print_table(rows)
    return met


def _sides(pairs: Sequence[Pair]) -> tuple[list[Figures], list[Figures]]:
    return [pair.old for pair in pairs], [pair.new for pair in pairs]


def _save(old: Contender, new: Contender, pairs: Mapping[str, Sequence[Pair]], bars: Mapping[str, float]) -> Path:
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "old": old.name,
        "new": new.name,
        "bars": bars,
        "pairs": {name: [asdict(pair) for pair in made] for name, made in pairs.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"compare-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main())
