"""The jobs that crmd ships, by queue."""

from __future__ import annotations

from crmd.handlers.ai import chat_reply, transcribe_audio
from crmd.handlers.analytics import snapshot
from crmd.handlers.campaign import run_campaign
from crmd.handlers.email import send_email
from crmd.handlers.export import export_contacts, export_messages
from crmd.handlers.flow import run_flow
from crmd.handlers.flow_sweep import sweep_flows
from crmd.handlers.import_contacts import import_contacts
from crmd.handlers.message import send_message
from crmd.handlers.notification import flush_notifications, notify
from crmd.handlers.webhook import deliver_webhook
from crmd.handlers.webhook_publish import publish_event
from crmd.handlers.whatsapp_event import whatsapp_event
from crmd.jobs import Catalog, spec_of

_SHIPPED = (
    send_message,
    run_campaign,
    send_email,
    run_flow,
    sweep_flows,
    deliver_webhook,
    publish_event,
    whatsapp_event,
    chat_reply,
    transcribe_audio,
    import_contacts,
    export_contacts,
    export_messages,
    snapshot,
    notify,
    flush_notifications,
)


def shipped_catalog() -> Catalog:
    """A new catalog with the shipped jobs, to which the configuration's own handlers may be added."""
    catalog = Catalog()
    for function in _SHIPPED:
        spec = spec_of(function)
        if spec is not None and spec.queue is not None:
            catalog.add(spec.queue, spec)
    return catalog
