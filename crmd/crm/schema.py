"""The tables. `migrations/versions` makes them; a test holds the two against each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from crmd.crm.database.types import Chars, Id, Instant, Json, utc_now

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
"""Of constraints and indexes: what has no name of ours could be changed by no later migration."""


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        int: Id,
        str: Chars,
        datetime: Instant,
        dict[str, Any]: Json,
        list[Any]: Json,
        list[str]: Json,
    }


class Contact(Base):
    """A person that messages go to, and come from."""

    __tablename__ = "contacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    phone: Mapped[str] = mapped_column(unique=True)
    """E.164, such as +491701234567."""
    name: Mapped[str | None]
    email: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Whatever the CRM knows besides, by name; campaigns and flows read them."""
    opted_out_at: Mapped[datetime | None]
    """Since when the contact wants no messages."""
    opt_word_at: Mapped[datetime | None]
    """When the last word for messages or against them was written, by WhatsApp's clock; empty where none was."""
    opt_word_wamid: Mapped[str | None]
    """The message with that word: of two of the same second the one with the greater id is the later."""
    marketing_stopped_at: Mapped[datetime | None]
    """Since when the contact wants no marketing: what it chose in WhatsApp itself, apart from words."""
    marketing_choice_at: Mapped[datetime | None]
    """When it last chose for marketing or against it, by WhatsApp's clock."""
    last_inbound_at: Mapped[datetime | None]
    """When the contact last wrote: free-form messages are allowed for 24 hours from then on."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class ContactIdentity(Base):
    """Something else than its phone under which a contact is known; several contacts may be one person."""

    __tablename__ = "contact_identities"
    __table_args__ = (Index("ix_contact_identities_value", "value", "kind"),)

    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """phone: another number, E.164, that WhatsApp takes for the same."""
    scope: Mapped[str] = mapped_column(primary_key=True, default="")
    """Where it holds; empty: everywhere, as phone numbers do."""
    value: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class WaNumber(Base):
    """A number that was written to and that WhatsApp has in another form, while neither was a contact's."""

    __tablename__ = "wa_numbers"

    phone: Mapped[str] = mapped_column(primary_key=True)
    """E.164."""
    wa_phone: Mapped[str] = mapped_column(primary_key=True, index=True)
    """E.164."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ContactTag(Base):
    """A tag of a contact."""

    __tablename__ = "contact_tags"

    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True, index=True)


class Message(Base):
    """A message to or from a contact."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("job_key", "job_enqueued_at"),
        Index("ix_messages_status", "status", "status_at"),
        Index("ix_messages_campaign_id", "campaign_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    direction: Mapped[str]
    """out or in."""
    phone: Mapped[str] = mapped_column(index=True)
    """The other side, E.164."""
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id", ondelete="SET NULL"), index=True)
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaigns.id", ondelete="SET NULL"))
    once: Mapped[str | None] = mapped_column(unique=True)
    """Under the same word a message is sent once, whatever happens to jobs and daemons."""
    job_queue: Mapped[str | None]
    job_key: Mapped[str | None]
    job_enqueued_at: Mapped[datetime | None]
    """Together with the key: the job, as keys may be used again."""
    wamid: Mapped[str | None] = mapped_column(unique=True)
    """WhatsApp's id of the message."""
    type: Mapped[str]
    """text, template, image, …"""
    text: Mapped[str | None]
    """What it says, or the template's name; at most 4,096 characters."""
    status: Mapped[str]
    """in: received. out:

    - sending: a job is at it, or its daemon died at it
    - retrying: it did not go out, and its job will try again
    - unknown: it may have gone out; a status webhook or a person settles it
    - accepted: WhatsApp took it
    - sent, delivered, read: what WhatsApp's webhooks told last, in this order
    - failed: it did not go out, or WhatsApp could not deliver it
    """
    status_at: Mapped[datetime]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class MessageEvent(Base):
    """One step in a message's history; each status once."""

    __tablename__ = "message_events"

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    error_code: Mapped[str | None]


class Campaign(Base):
    """One message to many contacts."""

    __tablename__ = "campaigns"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    definition: Mapped[dict[str, Any]]
    """The payload of run_campaign."""
    status: Mapped[str] = mapped_column(index=True)
    """running, paused, cancelled, stopped (too many of the first failed), done."""
    reason: Mapped[str | None]
    """Why it is paused, cancelled or stopped."""
    cursor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How far the audience was read."""
    total: Mapped[int | None]
    """Recipients, once the whole audience was read."""
    job_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class CampaignRecipient(Base):
    """One recipient of one campaign, once."""

    __tablename__ = "campaign_recipients"
    __table_args__ = (
        UniqueConstraint("campaign_id", "phone"),
        Index("ix_campaign_recipients_state", "campaign_id", "state", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id", ondelete="CASCADE"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id", ondelete="SET NULL"), index=True)
    phone: Mapped[str]
    variables: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str]
    """pending, queued (its message's job is in the store), skipped."""
    reason: Mapped[str | None]
    """Why it was skipped."""


class Flow(Base):
    """A definition of steps that contacts go through."""

    __tablename__ = "flows"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    definition: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class FlowRun(Base):
    """One contact on its way through a flow."""

    __tablename__ = "flow_runs"
    __table_args__ = (
        Index("ix_flow_runs_waiting", "contact_id", "state"),
        Index("ix_flow_runs_wake", "state", "wake_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    flow_id: Mapped[int] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), index=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"))
    once: Mapped[str | None] = mapped_column(unique=True)
    """Under the same word a run starts once: a repeated inbound message starts no second one."""
    definition: Mapped[dict[str, Any]]
    """As it was when the run began: a changed flow changes no run under way."""
    state: Mapped[str]
    """running, waiting, waiting_for_reply, done, failed, cancelled."""
    step: Mapped[str | None]
    """The step that comes next, or that waits; of a finished run the one at which it ended."""
    count: Mapped[int] = mapped_column(default=0)
    """Steps done: names what each of them sends, so that a repeat is recognised."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the run knows, such as the last reply."""
    wake_at: Mapped[datetime]
    """When it goes on, or is looked after where its job was lost; when a finished one is deleted."""
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class File(Base):
    """An upload, an export or a report."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_owner", "owner", "expires_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """Random, not to be guessed; also the name on disk."""
    kind: Mapped[str]
    """upload, export, report."""
    name: Mapped[str]
    """What a person calls it."""
    media_type: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[str | None]
    """Who uploaded it: `token:NAME` or `user:NAME`; None for what a job made, and of uploads to 0.1.0."""


class Transfer(Base):
    """One run of an import or an export."""

    __tablename__ = "transfers"
    __table_args__ = (UniqueConstraint("job_key", "job_enqueued_at", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """import_contacts, export_contacts, export_messages."""
    job_key: Mapped[str]
    job_enqueued_at: Mapped[datetime]
    """Together with the key: the job, as keys may be used again."""
    file_id: Mapped[str | None]
    """What was imported, or what was made."""
    report_id: Mapped[str | None]
    """File with each rejected row and why."""
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cursor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How far an import is, for the delivery that goes on."""
    result: Mapped[dict[str, Any] | None]
    """What the job returned: a repeat of a finished one returns it again."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    finished_at: Mapped[datetime | None]


class Snapshot(Base):
    """What happened in one hour or day."""

    __tablename__ = "snapshots"
    __table_args__ = (UniqueConstraint("period", "starts_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    period: Mapped[str]
    """hour or day."""
    starts_at: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class AiUsage(Base):
    """Tokens that one answer cost."""

    __tablename__ = "ai_usage"
    __table_args__ = (UniqueConstraint("job_key", "answered_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_key: Mapped[str]
    job: Mapped[str]
    model: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    answered_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class EndpointState(Base):
    """Whether a registered webhook endpoint works."""

    __tablename__ = "endpoint_states"

    name: Mapped[str] = mapped_column(primary_key=True)
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    reason: Mapped[str | None]


class NotificationGroup(Base):
    """Notifications of one group that wait to become one message."""

    __tablename__ = "notification_groups"

    channel: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime]
    """The message goes out when `notify.group_window` has passed since then."""


class NotificationEntry(Base):
    """One notification of a group that waits; each job's once, whatever happens to daemons."""

    __tablename__ = "notification_entries"
    __table_args__ = (
        UniqueConstraint("job_key", "job_enqueued_at"),
        Index("ix_notification_entries_group", "channel", "name"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[str]
    name: Mapped[str]
    """The group's."""
    job_key: Mapped[str]
    job_enqueued_at: Mapped[datetime]
    level: Mapped[str]
    text: Mapped[str | None]
    """Of the first few only."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
