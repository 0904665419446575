"""A clock for scripts that a test sets: what the store's own would make slow or vague to test."""

from __future__ import annotations

import hashlib
import re

from crmd.engine.store.client import Store
from crmd.engine.store.library import Script

NOW_KEY = "test:now"
START_MS = 1_800_000_000_000

_NOW_FUNCTION = re.compile(r"local function now_ms\(\)\n.*?\nend\n", re.DOTALL)
_FROM_KEY = f"local function now_ms()\n  return tonumber(redis.call('GET', '{NOW_KEY}'))\nend\n"


class StoreClock:
    """The time that the scripts of one store see, in ms. Times to live still go by the store's own clock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ms = START_MS
        self.passed_ms = 0
        """How much time has passed: what no step of the clock changes."""

    async def set(self, ms: int) -> None:
        """Lets time pass until then."""
        self.passed_ms += ms - self.ms
        await self.step(ms - self.ms)

    async def step(self, ms: int) -> None:
        """Sets the clock forward or back, while no time passes."""
        self.ms += ms
        await self._store.command("SET", NOW_KEY, self.ms)

    async def forward(self, ms: int) -> None:
        """Lets time pass."""
        await self.set(self.ms + ms)


async def freeze(store: Store) -> StoreClock:
    """Makes every script of the store read its time from a key."""
    for name, script in store.scripts.items():
        text = _NOW_FUNCTION.sub(_FROM_KEY, script.text)
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        store.scripts[name] = Script(name, text, sha)
    clock = StoreClock(store)
    store.monotonic = lambda: clock.passed_ms / 1000
    await clock.step(0)
    return clock
