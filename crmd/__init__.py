"""crmd: a background-job daemon for a WhatsApp CRM.

What applications and handlers use is here: `job`, `JobContext`, what handlers raise, the clients and `Cache`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from crmd.client import AsyncClient, Client
    from crmd.errors import (
        CrmdError,
        OutcomeUnknown,
        PauseQueue,
        Permanent,
        RateLimited,
        Retry,
        Snooze,
        StoreUnavailable,
    )
    from crmd.jobs import JobContext, job
    from crmd.queues.views import NewJob
    from crmd.store.cache import Cache

__all__ = [
    "AsyncClient",
    "Cache",
    "Client",
    "CrmdError",
    "JobContext",
    "NewJob",
    "OutcomeUnknown",
    "PauseQueue",
    "Permanent",
    "RateLimited",
    "Retry",
    "Snooze",
    "StoreUnavailable",
    "job",
]

_HOMES = {
    "AsyncClient": "crmd.client",
    "Client": "crmd.client",
    "Cache": "crmd.store.cache",
    "JobContext": "crmd.jobs",
    "NewJob": "crmd.queues.views",
    "job": "crmd.jobs",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for only then, so that `import crmd` is quick and the parts import each other freely."""
    if name not in __all__:
        raise AttributeError(f"module 'crmd' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "crmd.errors")), name)
