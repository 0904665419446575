"""The first tables."""

import sqlalchemy as sa
from alembic import op

from crmd.crm.database.types import Id, Instant, Json

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "ai_usage",
        sa.Column("id", Id, nullable=False),
        sa.Column("job_key", sa.String(), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("input_tokens", Id, nullable=False),
        sa.Column("output_tokens", Id, nullable=False),
        sa.Column("answered_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key", "answered_at"),
    )
    op.create_index("ix_ai_usage_answered_at", "ai_usage", ["answered_at"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("definition", Json, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("cursor", Json, nullable=False),
        sa.Column("total", Id, nullable=True),
        sa.Column("job_key", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_campaigns_status", "campaigns", ["status"], unique=False)
    op.create_table(
        "contacts",
        sa.Column("id", Id, nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("attributes", Json, nullable=False),
        sa.Column("opted_out_at", Instant(), nullable=True),
        sa.Column("last_inbound_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("phone"),
    )
    op.create_table(
        "endpoint_states",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("failing_since", Instant(), nullable=True),
        sa.Column("disabled_at", Instant(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size_bytes", Id, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_files_expires_at", "files", ["expires_at"], unique=False)
    op.create_table(
        "flows",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("definition", Json, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "notification_groups",
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("opened_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "name"),
    )
    op.create_table(
        "notification_entries",
        sa.Column("id", Id, nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("job_key", sa.String(), nullable=False),
        sa.Column("job_enqueued_at", Instant(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key", "job_enqueued_at"),
    )
    op.create_index("ix_notification_entries_group", "notification_entries", ["channel", "name"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("id", Id, nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("starts_at", Instant(), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("period", "starts_at"),
    )
    op.create_table(
        "transfers",
        sa.Column("id", Id, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("job_key", sa.String(), nullable=False),
        sa.Column("job_enqueued_at", Instant(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=True),
        sa.Column("report_id", sa.String(), nullable=True),
        sa.Column("counts", Json, nullable=False),
        sa.Column("cursor", Json, nullable=False),
        sa.Column("result", Json, nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key", "job_enqueued_at", "kind"),
    )
    op.create_index("ix_transfers_created_at", "transfers", ["created_at"], unique=False)
    op.create_table(
        "campaign_recipients",
        sa.Column("id", Id, nullable=False),
        sa.Column("campaign_id", Id, nullable=False),
        sa.Column("contact_id", Id, nullable=True),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("variables", Json, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "phone"),
    )
    op.create_index("ix_campaign_recipients_contact_id", "campaign_recipients", ["contact_id"], unique=False)
    op.create_index(
        "ix_campaign_recipients_state", "campaign_recipients", ["campaign_id", "state", "id"], unique=False
    )
    op.create_table(
        "contact_tags",
        sa.Column("contact_id", Id, nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("contact_id", "tag"),
    )
    op.create_index("ix_contact_tags_tag", "contact_tags", ["tag"], unique=False)
    op.create_table(
        "flow_runs",
        sa.Column("id", Id, nullable=False),
        sa.Column("flow_id", Id, nullable=False),
        sa.Column("contact_id", Id, nullable=False),
        sa.Column("once", sa.String(), nullable=True),
        sa.Column("definition", Json, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("count", Id, nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.Column("wake_at", Instant(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["flow_id"], ["flows.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("once"),
    )
    op.create_index("ix_flow_runs_flow_id", "flow_runs", ["flow_id"], unique=False)
    op.create_index("ix_flow_runs_wake", "flow_runs", ["state", "wake_at"], unique=False)
    op.create_index("ix_flow_runs_waiting", "flow_runs", ["contact_id", "state"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", Id, nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("phone", sa.String(), nullable=False),
        sa.Column("contact_id", Id, nullable=True),
        sa.Column("campaign_id", Id, nullable=True),
        sa.Column("once", sa.String(), nullable=True),
        sa.Column("job_queue", sa.String(), nullable=True),
        sa.Column("job_key", sa.String(), nullable=True),
        sa.Column("job_enqueued_at", Instant(), nullable=True),
        sa.Column("wamid", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("status_at", Instant(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key", "job_enqueued_at"),
        sa.UniqueConstraint("once"),
        sa.UniqueConstraint("wamid"),
    )
    op.create_index("ix_messages_campaign_id", "messages", ["campaign_id", "id"], unique=False)
    op.create_index("ix_messages_contact_id", "messages", ["contact_id"], unique=False)
    op.create_index("ix_messages_created_at", "messages", ["created_at"], unique=False)
    op.create_index("ix_messages_phone", "messages", ["phone"], unique=False)
    op.create_index("ix_messages_status", "messages", ["status", "status_at"], unique=False)
    op.create_table(
        "message_events",
        sa.Column("message_id", Id, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("message_id", "status"),
    )


def downgrade() -> None:
    """Removes them."""
    op.drop_table("message_events")
    op.drop_index("ix_messages_status", table_name="messages")
    op.drop_index("ix_messages_phone", table_name="messages")
    op.drop_index("ix_messages_created_at", table_name="messages")
    op.drop_index("ix_messages_contact_id", table_name="messages")
    op.drop_index("ix_messages_campaign_id", table_name="messages")
    op.drop_table("messages")
    op.drop_index("ix_flow_runs_waiting", table_name="flow_runs")
    op.drop_index("ix_flow_runs_wake", table_name="flow_runs")
    op.drop_index("ix_flow_runs_flow_id", table_name="flow_runs")
    op.drop_table("flow_runs")
    op.drop_index("ix_contact_tags_tag", table_name="contact_tags")
    op.drop_table("contact_tags")
    op.drop_index("ix_campaign_recipients_contact_id", table_name="campaign_recipients")
    op.drop_index("ix_campaign_recipients_state", table_name="campaign_recipients")
    op.drop_table("campaign_recipients")
    op.drop_index("ix_transfers_created_at", table_name="transfers")
    op.drop_table("transfers")
    op.drop_table("snapshots")
    op.drop_index("ix_notification_entries_group", table_name="notification_entries")
    op.drop_table("notification_entries")
    op.drop_table("notification_groups")
    op.drop_table("flows")
    op.drop_index("ix_files_expires_at", table_name="files")
    op.drop_table("files")
    op.drop_table("endpoint_states")
    op.drop_table("contacts")
    op.drop_index("ix_campaigns_status", table_name="campaigns")
    op.drop_table("campaigns")
    op.drop_index("ix_ai_usage_answered_at", table_name="ai_usage")
    op.drop_table("ai_usage")
