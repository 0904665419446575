"""Words by which people say that they want no more messages, or want them again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal


class OptWords:
    """A resource of handlers: the words of the configuration. A message has to say just one of them."""

    def __init__(self, out_words: Iterable[str], in_words: Iterable[str]) -> None:
        """Raises ValueError for a word that means both."""
        self._out = frozenset(map(_bare, out_words))
        self._in = frozenset(map(_bare, in_words))
        if both := self._out & self._in:
            raise ValueError(f'"{min(both)}" cannot be one of opt_out_words and one of opt_in_words')

    def meaning(self, text: str | None) -> Literal["out", "in"] | None:
        """What a message asks for."""
        said = _bare(text or "")
        if said in self._out:
            return "out"
        return "in" if said in self._in else None


def _bare(text: str) -> str:
    return text.strip().casefold()
