"""Fixtures of the conformance tests."""

from tests.support.http import crm
from tests.support.leaks import no_leaks, untidy

__all__ = ["crm", "no_leaks", "untidy"]
