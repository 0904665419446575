"""Fixtures for tests of the daemon as a process."""

from tests.support.daemon import daemons

__all__ = ["daemons"]
