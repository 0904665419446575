"""A process that measures one thing. It says when its phases begin and end, and is held while we read the meters.

The protocol is the same for all languages: a line `begin NAME`, `end NAME` or another word on standard output
waits for a line on standard input; a line of JSON is the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis

from bench.reading import Phase, Reading, read

TIMEOUT_S = 180.0
PROJECT = Path(__file__).parents[1]


class TrialFailed(Exception):
    """A process ended without a result."""


@dataclass(slots=True)
class Outcome:
    """What a trial measured, and what was measured of it."""

    phases: dict[str, Phase] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


class Trial:
    """One such process; ended when the context is left."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], store: Redis) -> None:
        self._command = command
        self._store = store
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the context
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=PROJECT,
            env={**os.environ, **environ},
        )
        self._timer = threading.Timer(TIMEOUT_S, self._process.kill)
        self._timer.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def expect(self, word: str) -> None:
        """Waits until the process says `word`, and lets it go on."""
        said = self._line()
        if said != word:
            raise TrialFailed(f"{' '.join(self._command)} said {said!r}, not {word!r}")
        self._go()

    def finish(self) -> Outcome:
        """Reads the meters at each mark, until the result."""
        outcome = Outcome()
        begun: dict[str, Reading] = {}
        while not (line := self._line()).startswith("{"):
            verb, _, name = line.partition(" ")
            reading = read(self._store, self.pid)
            if verb == "begin":
                begun[name] = reading
            elif verb == "end":
                outcome.phases[name] = begun.pop(name).until(reading)
            self._go()
        outcome.result = json.loads(line)
        return outcome

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace")[-2000:]
            raise TrialFailed(f"{' '.join(self._command)} ended with {self._process.returncode}:\n{said}")
        return line.rstrip("\n")

    def _go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
