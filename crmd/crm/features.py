"""What each feature brings, by module path: loaded late, so that nothing below a feature imports it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Feature:
    """Its references are `"module:name"`, its modules dotted paths."""

    jobs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By queue; each function has the name of its job."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """Of the command line: by reference the line that `crmd --help` has for it."""
    routes: Mapping[str, str] = field(default_factory=dict)
    """Of the HTTP API, by the path that they are under: makes them of `crmd.crm.api.ApiParts`."""
    tables: str | None = None
    """The module of its tables."""
    forget: str | None = None
    """Deletes what it keeps of a contact; see `contacts.repository.forget`."""


FEATURES: tuple[Feature, ...] = (
    Feature(
        routes={"/api/v1/contacts": "crmd.crm.contacts.routes:routes"},
        tables="crmd.crm.contacts.tables",
    ),
    Feature(
        routes={"/api/v1/files": "crmd.crm.files.routes:routes"},
        tables="crmd.crm.files.tables",
    ),
    Feature(
        jobs={"message": ("crmd.crm.messages.jobs:send_message",)},
        routes={"/api/v1/messages": "crmd.crm.messages.routes:routes"},
        tables="crmd.crm.messages.tables",
        forget="crmd.crm.messages.queries:forget",
    ),
    Feature(
        jobs={"campaign": ("crmd.crm.campaigns.jobs:run_campaign",)},
        commands={"crmd.crm.campaigns.commands:campaigns": "List campaigns; show, pause, resume or cancel one."},
        routes={"/api/v1/campaigns": "crmd.crm.campaigns.routes:routes"},
        tables="crmd.crm.campaigns.tables",
        forget="crmd.crm.campaigns.recipients:forget",
    ),
    Feature(
        jobs={"flow": ("crmd.crm.flows.jobs:run_flow", "crmd.crm.flows.jobs:sweep_flows")},
        commands={"crmd.crm.flows.commands:flows": "List flows; check or store one."},
        routes={"/api/v1/flows": "crmd.crm.flows.routes:routes"},
        tables="crmd.crm.flows.tables",
        forget="crmd.crm.flows.repository:forget",
    ),
    Feature(jobs={"email": ("crmd.crm.email.jobs:send_email",)}),
    Feature(
        jobs={"webhook": ("crmd.crm.webhooks.jobs:deliver_webhook", "crmd.crm.webhooks.jobs:publish_event")},
        routes={"/api/v1/webhook-endpoints": "crmd.crm.webhooks.routes:routes"},
        tables="crmd.crm.webhooks.tables",
    ),
    Feature(
        jobs={"webhook": ("crmd.crm.inbound.jobs:whatsapp_event",)},
        routes={"/webhooks/whatsapp": "crmd.crm.inbound.routes:routes"},
    ),
    Feature(
        jobs={"ai": ("crmd.crm.ai.jobs:chat_reply", "crmd.crm.ai.jobs:transcribe_audio")},
        tables="crmd.crm.ai.tables",
    ),
    Feature(jobs={"import": ("crmd.crm.imports.jobs:import_contacts",)}),
    Feature(jobs={"export": ("crmd.crm.exports.jobs:export_contacts", "crmd.crm.exports.jobs:export_messages")}),
    Feature(
        jobs={"analytics": ("crmd.crm.analytics.jobs:snapshot",)},
        commands={"crmd.crm.analytics.commands:report": "Show what happened in the last days or hours."},
        tables="crmd.crm.analytics.tables",
    ),
    Feature(
        jobs={
            "notification": (
                "crmd.crm.notifications.jobs:notify",
                "crmd.crm.notifications.jobs:flush_notifications",
            )
        },
        tables="crmd.crm.notifications.tables",
    ),
)


def load(reference: str) -> Any:
    """Imports what a reference `module:name` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def queues() -> set[str]:
    """The queues that have jobs of a feature."""
    return {queue for feature in FEATURES for queue in feature.jobs}


def commands() -> dict[str, str]:
    """The commands of all features, with their lines."""
    return {reference: line for feature in FEATURES for reference, line in feature.commands.items()}


def routes() -> dict[str, str]:
    """What makes the routes of all features, by their path."""
    return {path: reference for feature in FEATURES for path, reference in feature.routes.items()}


def forgetting() -> list[Any]:
    """What all features do to forget a contact."""
    return [load(feature.forget) for feature in FEATURES if feature.forget]
