"""The tables of all features, for Alembic and for a new database. `database` knows none of them."""

from __future__ import annotations

from crmd.crm.ai.tables import AiUsage
from crmd.crm.analytics.tables import Snapshot
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts.tables import Contact, ContactIdentity, ContactTag, WaNumber
from crmd.crm.database.base import Base
from crmd.crm.database.migrate import MIGRATIONS, Schema
from crmd.crm.files.tables import File, Transfer
from crmd.crm.flows.tables import Flow, FlowRun
from crmd.crm.messages.tables import Message, MessageEvent
from crmd.crm.notifications.tables import NotificationEntry, NotificationGroup
from crmd.crm.webhooks.tables import EndpointState

TABLES: tuple[type[Base], ...] = (
    *(AiUsage, Campaign, CampaignRecipient, Contact, ContactIdentity, ContactTag, EndpointState, File),
    *(Flow, FlowRun, Message, MessageEvent, NotificationEntry, NotificationGroup, Snapshot, Transfer, WaNumber),
)
SCHEMA = Schema(Base.metadata, MIGRATIONS, head="0004")
"""A test holds `head` against the folder, and the tables against what the migrations make."""
