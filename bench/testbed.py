"""The one server of a run, and trials on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis

from bench.peers import Peer
from bench.reading import store_info
from bench.trial import Outcome, Trial
from crmd.engine.store.library import load_scripts

LOGGED_FROM_US = 1_000
"""Scripts that take longer go to the store's slow log."""
LONG_SCRIPT_MS = 20.0
REWRITE_ABOVE_BYTES = 512 * 1024 * 1024
"""So far the append-only file grows before it is written anew, between two trials."""


class Testbed:
    """Runs trials one after the other; each begins with an empty database 0."""

    def __init__(self, url: str) -> None:
        self.address = url
        self.store = Redis.from_url(url)
        self.store.config_set("slowlog-log-slower-than", LOGGED_FROM_US)
        self.store.config_set("slowlog-max-len", 4096)
        self._names = {script.sha: name for name, script in load_scripts().items()}

    def close(self) -> None:
        """Leaves the server."""
        self.store.close()

    def url(self, database: int = 0) -> str:
        """The address of one database."""
        return f"{self.address.rpartition('/')[0]}/{database}"

    def clean(self) -> None:
        """Empties database 0, the slow log and, if need be, the append-only file."""
        self.store.flushdb()
        info = store_info(self.store, "persistence")
        if info["aof_current_size"] - info["aof_base_size"] > REWRITE_ABOVE_BYTES:
            cast(Any, self.store).bgrewriteaof()
            self._wait_rewritten()
        self.store.slowlog_reset()

    def run(self, peer: Peer, task: str, *, database: int = 0, **options: Any) -> Outcome:
        """One trial from its start to its result."""
        with self.trial(peer, task, database=database, **options) as trial:
            return trial.finish()

    @contextmanager
    def trial(self, peer: Peer, task: str, *, database: int = 0, **options: Any) -> Iterator[Trial]:
        """A trial that runs until the context is left."""
        command = [*peer.command, peer.name, task, self.url(database), json.dumps(options)]
        with Trial(command, peer.environ, self.store) as trial:
            yield trial

    def longest_script_ms(self) -> float:
        """The longest script since `clean`; 0 for none above a millisecond."""
        longest, name = 0.0, ""
        for entry in cast(list[dict[str, Any]], self.store.slowlog_get(4096)):
            verb, _, rest = entry["command"].partition(b" ")
            if verb.upper() == b"EVALSHA" and entry["duration"] / 1000 > longest:
                longest, name = entry["duration"] / 1000, rest.partition(b" ")[0].decode()
        if longest > LONG_SCRIPT_MS:
            print(f"  a script took {longest:.1f} ms: {self._names.get(name, name)}", file=sys.stderr)
        return longest

    def _wait_rewritten(self) -> None:
        while True:
            info = store_info(self.store, "persistence")
            if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
                return
            time.sleep(0.05)
