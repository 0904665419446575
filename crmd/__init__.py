"""A background-job daemon for a WhatsApp CRM.

What applications and handlers import: `job`, `JobContext`, what handlers raise, the clients and `Cache`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crmd.version import __version__

if TYPE_CHECKING:
    from crmd.cache.cache import Cache
    from crmd.client.over_store import AsyncClient, Client
    from crmd.engine.admin.views import NewJob
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
    "__version__",
    "job",
]

_HOMES = {
    "AsyncClient": "crmd.client.over_store",
    "Client": "crmd.client.over_store",
    "Cache": "crmd.cache.cache",
    "JobContext": "crmd.jobs",
    "NewJob": "crmd.engine.admin.views",
    "job": "crmd.jobs",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for only then, so that `import crmd` is quick and the parts import each other freely."""
    if name not in __all__:
        raise AttributeError(f"module 'crmd' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "crmd.errors")), name)
