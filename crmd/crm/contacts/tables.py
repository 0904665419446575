"""Contacts, their tags and the numbers under which they are known."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


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
