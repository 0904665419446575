"""What uses private parts of a package works on the oldest and the newest version that crmd allows of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import PROJECT

pytestmark = pytest.mark.faults

TESTS = {
    "redis": [f"tests/engine/test_{name}.py" for name in ("connection", "store_client", "cache")],
    "aiohttp": ["tests/http"],
}


def allowed(package: str) -> str:
    """What pyproject.toml says of a package, such as `redis>=7.4,<8`."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    [found] = [one for one in project["dependencies"] if one.startswith(f"{package}>")]
    return str(found)


def oldest(package: str) -> str:
    """The requirement of the oldest version allowed."""
    return allowed(package).split(",")[0].replace(">=", "==")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", [oldest, allowed], ids=["oldest", "newest"])
@pytest.mark.parametrize("package", TESTS)
def test_what_is_private_is_found_in_a_version_that_is_allowed(
    package: str, version: Callable[[str], str], tmp_path: Path
) -> None:
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

    python("-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), version(package))
    assert python("-c", f"import {package}; print({package}.__file__)").startswith(str(tmp_path))
    python("-m", "pytest", "-q", "-p", "no:randomly", *TESTS[package])
