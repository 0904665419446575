"""Fixtures of the engine's tests."""

from tests.support.leaks import no_leaks, untidy

__all__ = ["no_leaks", "untidy"]
