"""What applications and handlers import from `crmd` itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import crmd

PROGRAM = """
import crmd.jobs, crmd.crm.catalog
from crmd import {name}
assert not type({name}).__name__ == "module", {name}
"""


@pytest.mark.parametrize("name", crmd.__all__)
def test_each_public_name_is_what_it_says_whatever_was_imported_before(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
