"""What crmd 0.1.0 (commit 8f06435) did wrong under attack and failure, and the tests that show it mended.

Each of these tests failed on 0.1.0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One defect of crmd 0.1.0."""

    number: int
    was: str
    now: str
    tests: tuple[str, ...]
    """`module.test`, below `tests`."""


DEFECTS: tuple[Defect, ...] = (
    # 1
    # 2
    # 3
    # 4
    # 5
    # 6
    # 7
    # 8
    # 9
    # 10
    # 11
    # 12
    # 13
    # 14
    # 15
    # 16
    # 17
    # 18
    # 19
    # 20
    # 21
    # 22
    # 23
    # 24
    # 25
    # 26
    # 27
)
