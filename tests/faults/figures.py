"""What tests of faults measured."""

from __future__ import annotations


def report(text: str) -> None:
    """Figures, for those who run the faults by hand with -s."""
    print(f"\n    {text}")  # noqa: T201
