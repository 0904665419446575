"""The store client on the oldest and the newest redis-py that may be installed beside crmd."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.daemon import PROJECT

pytestmark = pytest.mark.faults

TESTS = ("tests/engine/test_connection.py", "tests/engine/test_store_client.py", "tests/engine/test_cache.py")


def allowed() -> str:
    """What pyproject.toml says of redis-py, such as `redis>=7.4,<8`."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    [found] = [one for one in project["dependencies"] if one.startswith("redis>")]
    return str(found)


def oldest() -> str:
    """The requirement of the oldest version allowed."""
    return allowed().split(",")[0].replace(">=", "==")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("requirement", [oldest(), allowed()], ids=["oldest", "newest"])
def test_the_store_client_works_on_redis_py(requirement: str, tmp_path: Path) -> None:
    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), requirement)
    assert python("-c", "import redis; print(redis.__file__)").startswith(str(tmp_path))
    python("-m", "pytest", "-q", "-p", "no:randomly", *TESTS)
