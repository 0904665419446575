"""Tells whoever measures us how far we are, and waits until the meters are read."""

from __future__ import annotations

import sys


def mark(words: str) -> None:
    """Says the words and blocks, the event loop too, until it is answered."""
    print(words, flush=True)
    if not sys.stdin.readline():
        sys.exit(0)  # nobody measures any more
