"""Fixtures of the conformance tests."""

from tests.support.leaks import no_leaks, untidy

__all__ = ["no_leaks", "untidy"]
