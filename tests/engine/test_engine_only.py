"""The engine by itself: what its example does, and what it loads for that."""

from __future__ import annotations

import subprocess
import sys

from tests.support.pages import PROJECT

ELSEWHERE = ("cli", "client", "config", "console", "crm", "daemon", "embedded", "http", "sandbox")


def test_a_queue_runs_on_the_engine_without_the_rest_of_crmd(store_url: str) -> None:
    program = (
        "import runpy, sys\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('crmd.')})\n"
    )
    example = PROJECT / "examples/engine_alone.py"
    run = f"import sys; sys.argv = [{str(example)!r}, {store_url!r}]\n{program}"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    answer, loaded = done.stdout.splitlines()
    assert answer == "hello ann, this is attempt 1"
    assert set(loaded.split()).isdisjoint(ELSEWHERE)
