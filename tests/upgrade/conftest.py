"""Fixtures for tests of what older versions left."""

from tests.support.daemon import daemons

__all__ = ["daemons"]
