"""Whose word stands, what people want of marketing, and the numbers under which WhatsApp knows them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from crmd.crm.database.types import Id, Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns that may be empty, and tables: a daemon of the version before goes on beside."""
    op.add_column("contacts", sa.Column("opt_word_at", Instant(), nullable=True))
    op.add_column("contacts", sa.Column("opt_word_wamid", sa.String(), nullable=True))
    op.add_column("contacts", sa.Column("marketing_stopped_at", Instant(), nullable=True))
    op.add_column("contacts", sa.Column("marketing_choice_at", Instant(), nullable=True))
    op.create_table(
        "contact_identities",
        sa.Column("contact_id", Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("contact_id", "kind", "scope", "value"),
    )
    op.create_index("ix_contact_identities_value", "contact_identities", ["value", "kind"], unique=False)
    op.create_table(
        "wa_numbers",
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("wa_phone", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("phone", "wa_phone"),
    )
    op.create_index("ix_wa_numbers_wa_phone", "wa_numbers", ["wa_phone"], unique=False)


def downgrade() -> None:
    """Removes them."""
    op.drop_index("ix_wa_numbers_wa_phone", table_name="wa_numbers")
    op.drop_table("wa_numbers")
    op.drop_index("ix_contact_identities_value", table_name="contact_identities")
    op.drop_table("contact_identities")
    op.drop_column("contacts", "marketing_choice_at")
    op.drop_column("contacts", "marketing_stopped_at")
    op.drop_column("contacts", "opt_word_wamid")
    op.drop_column("contacts", "opt_word_at")
