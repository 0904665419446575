"""`make bench`: crmd beside its peers, on one server in one run, peers in turn in each round."""

from __future__ import annotations

import argparse
import sys
import time

from bench import report
from bench.measures import all_measures
from bench.model import Measure, Rounds, Scale
from bench.peers import find_peers
from bench.server import bench_server
from bench.testbed import Testbed

QUICK = Scale(rounds=1, size=0.4)


def main() -> int:
    """Measures, prints, keeps a file; 1 when a bar is missed."""
    arguments = _arguments()
    began = time.monotonic()
    peers = find_peers()
    for name, reason in peers.skipped.items():
        print(f"{name} is skipped: {reason}")
    scale = QUICK if arguments.quick else Scale(arguments.rounds)
    chosen = _chosen(all_measures(peers, scale), arguments.only, arguments.quick)
    rounds: dict[str, Rounds] = {}
    with bench_server() as url:
        testbed = Testbed(url)
        for measure in chosen:
            rounds[measure.name] = run(measure, testbed, scale.rounds)
            report.print_measure(measure, rounds[measure.name])
        testbed.close()
    all_met = report.print_bars(rounds)
    print(f"\n{time.monotonic() - began:.0f} s; all rounds are in {report.save(rounds, peers)}")
    return 0 if all_met else 1


def run(measure: Measure, testbed: Testbed, count: int) -> Rounds:
    """All rounds of one measure."""
    rounds: Rounds = {subject: [] for subject in measure.subjects}
    measure.prepare(testbed)
    for number in range(count):
        for subject, run_once in measure.subjects.items():
            print(f"  {measure.name}: round {number + 1} of {count}, {subject}", file=sys.stderr, flush=True)
            rounds[subject].append(run_once(testbed))
    measure.tidy(testbed)
    return rounds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of the core measures")
    parser.add_argument("--rounds", type=int, default=Scale().rounds, help="rounds of each measure (%(default)s)")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="only this measure; may be given several times"
    )
    return parser.parse_args()


def _chosen(measures: list[Measure], names: list[str] | None, quick: bool) -> list[Measure]:
    if not names:
        return [measure for measure in measures if measure.core or not quick]
    known = {measure.name: measure for measure in measures}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"there is no measure {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names]


if __name__ == "__main__":
    sys.exit(main())
