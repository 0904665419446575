"""`make bench`: throughput at concurrency 10 and 100 beside stock SAQ, medians of interleaved rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from redis import Redis

from bench.server import bench_server

ROUNDS = 3
JOBS = {"crmd": 20_000, "saq": 3_000}
"""Enough for some seconds each; rates do not depend on it."""
CONCURRENCIES = (10, 100)
BAR = 5.0
"""Times stock SAQ, at each concurrency."""
RESULTS = Path(__file__).parent / "results"

Figures = dict[tuple[str, int], list[dict[str, float]]]


def main() -> int:
    """Runs all rounds and prints the table; 1 when the bar is missed."""
    figures: Figures = defaultdict(list)
    with bench_server() as url:
        for turn in range(ROUNDS):
            for concurrency in CONCURRENCIES:
                for peer in JOBS:
                    figures[peer, concurrency].append(measure(peer, url, concurrency))
            print(f"round {turn + 1} of {ROUNDS} done", file=sys.stderr)
    return report(figures)


def measure(peer: str, url: str, concurrency: int) -> dict[str, float]:
    """One run of one peer on an empty store, in a process of its own."""
    with Redis.from_url(url) as client:
        client.flushall()
        client.config_resetstat()
        command = [sys.executable, "-m", "bench.peers", peer, url, str(concurrency), str(JOBS[peer])]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        figures: dict[str, float] = json.loads(answer.stdout)
        stats = client.info("commandstats")
    figures["store_us"] = sum(entry["usec"] for entry in stats.values()) / JOBS[peer]
    return figures


def report(figures: Figures) -> int:
    """Prints medians with their spread, the ratios, and keeps a JSON file."""
    columns = ("enqueue", "process", "cpu_us", "store_us")
    print(f"{'peer':6} {'at a time':>9} {'enqueue/s':>10} {'process/s':>10} {'(spread)':>15}  CPU us store us")
    medians = {}
    for (peer, concurrency), runs in figures.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in columns}
        medians[peer, concurrency] = middle
        rates = [run["process"] for run in runs]
        spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
        print(
            f"{peer:6} {concurrency:>9} {middle['enqueue']:>10,.0f} {middle['process']:>10,.0f} {spread:>15} "
            f"{middle['cpu_us']:>7.0f} {middle['store_us']:>8.0f}"
        )
    missed = 0
    for concurrency in CONCURRENCIES:
        ratio = medians["crmd", concurrency]["process"] / medians["saq", concurrency]["process"]
        missed += ratio < BAR
        print(f"concurrency {concurrency}: {ratio:.1f} x stock SAQ (bar: {BAR:g} x)")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    runs_by_name = {f"{peer}@{concurrency}": runs for (peer, concurrency), runs in figures.items()}
    file.write_text(json.dumps(runs_by_name, indent=1), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
