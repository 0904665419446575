"""The jobs that crmd ships, by queue."""

from __future__ import annotations

from crmd.handlers.message import send_message
from crmd.handlers.notification import notify
from crmd.handlers.webhook import deliver_webhook
from crmd.jobs import Catalog, spec_of

_SHIPPED = (send_message, deliver_webhook, notify)


def shipped_catalog() -> Catalog:
    """A new catalog with the shipped jobs, to which the configuration's own handlers may be added."""
    catalog = Catalog()
    for function in _SHIPPED:
        spec = spec_of(function)
        if spec is not None and spec.queue is not None:
            catalog.add(spec.queue, spec)
    return catalog
