"""Plants each defect in a copy of the code, and says which test notices it.

`python -m tests.mutants` runs all, `python -m tests.mutants lease` those whose name has the word. Ends with 1
where one was not noticed, or could not be planted: its text does not stand in the code once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.defects import DEFECTS, Defect

PROJECT = Path(__file__).parents[2]
AT_ONCE = 2
LONGEST_S = 300.0
"""A defect may make its tests hang: that is noticed too."""
_CAUGHT = re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE)
"""A test that failed, not a file of tests that could not be loaded."""


def main(words: list[str]) -> int:
    """Runs the defects whose names have one of the words, else all."""
    chosen = [one for one in DEFECTS if not words or any(word in one.name for word in words)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        missed = [one for one, line in zip(chosen, pool.map(_try, chosen), strict=True) if not _report(one, line)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} defects were noticed")  # noqa: T201
    return 1 if missed or not chosen else 0


def _report(defect: Defect, found: tuple[bool, str]) -> bool:
    noticed, how = found
    print(f"{'noticed' if noticed else 'MISSED '}  {defect.name}: {how}", flush=True)  # noqa: T201
    return noticed


def _try(defect: Defect) -> tuple[bool, str]:
    """Whether the defect is noticed, and by which test or why not."""
    with _copy() as folder:
        places = [path for path in _sources(folder) for _ in range(path.read_text().count(defect.find))]
        if len(places) != 1:
            return False, f"cannot be planted: its text stands in the code {len(places)} times"
        places[0].write_text(places[0].read_text().replace(defect.find, defect.put))
        return _run_tests(defect, folder)


def _run_tests(defect: Defect, folder: Path) -> tuple[bool, str]:
    where, _, words = defect.tests.partition(" -k ")
    options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=no", "-rfE"]
    command = [sys.executable, "-m", "pytest", f"tests/{where}", *options, "-k", words]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False, env=_environ()
        )
    except subprocess.TimeoutExpired:
        return True, f"its tests hang: {defect.tests}"
    caught = _CAUGHT.search(done.stdout)
    if done.returncode == 1 and caught:
        return True, f"{caught[1]} ({time.monotonic() - began:.0f} s)"
    if done.returncode == 0:
        return False, f"all tests of {defect.tests!r} pass"
    return False, f"pytest ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"


@contextmanager
def _copy() -> Iterator[Path]:
    """The project in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="crmd-mutant-") as name:
        folder = Path(name) / "crmd"
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
        yield folder


def _sources(folder: Path) -> Iterator[Path]:
    for ending in ("*.py", "*.lua"):
        yield from (folder / "crmd").rglob(ending)


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
