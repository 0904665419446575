"""The engine as used from outside, assembled once for the daemon, the command line and applications."""

from __future__ import annotations

from typing import Self

from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.schedules import Schedules
from crmd.engine.settings import SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget


class EngineAdmin:
    """What reads and changes the queues of one store."""

    def __init__(self, store: Store, registry: SettingsRegistry) -> None:
        self.store = store
        self.registry = registry
        self.inspector = Inspector(store, registry)
        self.control = Control(store, self.inspector)
        self.schedules = Schedules(self.control, registry)

    @classmethod
    def at(cls, url: str, registry: SettingsRegistry) -> Self:
        """On a store of its own at that URL; not connected yet."""
        return cls(Store(StoreTarget(url)), registry)

    async def start(self) -> None:
        """Connects. Raises StoreUnavailable where nothing answers now, and StoreUnusable."""
        try:
            await self.store.start(wait=False)
        except BaseException:
            await self.store.stop()
            raise

    async def stop(self) -> None:
        """Disconnects. Idempotent."""
        await self.control.stop()
        await self.store.stop()
