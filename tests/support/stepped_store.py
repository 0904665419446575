"""A server whose wall clock a test sets while it runs, as an operator, NTP or a resumed machine does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import StoreServer

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")


class SteppedStore(StoreServer):
    """A store server under libfaketime. Its monotonic clock, by which it measures, is left alone."""

    def __init__(self, binary: Path, library: Path) -> None:
        environ = {
            "LD_PRELOAD": str(library),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        super().__init__(binary, persistent=True, environ=environ)
        self._offset_file = self.folder / "offset"
        self._environ["FAKETIME_TIMESTAMP_FILE"] = str(self._offset_file)
        self.offset_s = 0
        self.step(0)

    def step(self, seconds: int) -> None:
        """Sets the clock forward, or back."""
        self.offset_s += seconds
        fresh = self.folder / "offset.new"
        fresh.write_text(f"{self.offset_s:+d}\n")
        fresh.replace(self._offset_file)


@pytest.fixture
def stepped_store(store_binary: Path) -> Iterator[SteppedStore]:
    """A persistent server of one test, whose clock the test sets."""
    found = next((path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])), None)
    if found is None:
        pytest.skip("no libfaketime; install the package faketime")
    with SteppedStore(store_binary, found) as server:
        yield server
