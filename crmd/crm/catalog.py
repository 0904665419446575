"""The jobs that crmd ships, by queue."""

from __future__ import annotations

from crmd.crm.ai.jobs import chat_reply, transcribe_audio
from crmd.crm.analytics.jobs import snapshot
from crmd.crm.campaigns.jobs import run_campaign
from crmd.crm.email.jobs import send_email
from crmd.crm.exports.jobs import export_contacts, export_messages
from crmd.crm.flows.jobs import run_flow
from crmd.crm.flows.sweep import sweep_flows
from crmd.crm.imports.jobs import import_contacts
from crmd.crm.inbound.jobs import whatsapp_event
from crmd.crm.messages.jobs import send_message
from crmd.crm.notifications.jobs import flush_notifications, notify
from crmd.crm.webhooks.jobs import deliver_webhook
from crmd.crm.webhooks.publish import publish_event
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
