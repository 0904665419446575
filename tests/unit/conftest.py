"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.config import ConfigBench


@pytest.fixture
def config(tmp_path: Path) -> ConfigBench:
    """A folder to load configurations in."""
    return ConfigBench(tmp_path)
