"""Which of its campaign's recipients a message is for: until now only the word of `once` said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from crmd.crm.database.types import Id

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# SQLite takes a constraint of an existing table only together with its column.
_ADD_TO_SQLITE = """
ALTER TABLE messages ADD COLUMN recipient_id INTEGER
REFERENCES campaign_recipients (id) ON DELETE SET NULL
"""

_TRIGGER_OF_SQLITE = """
CREATE TRIGGER messages_recipient AFTER INSERT ON messages
WHEN NEW.recipient_id IS NULL AND NEW.campaign_id IS NOT NULL AND NEW.once IS NOT NULL
BEGIN
    UPDATE messages SET recipient_id = (
        SELECT r.id FROM campaign_recipients r
        WHERE r.campaign_id = NEW.campaign_id AND r.phone = NEW.phone
        AND NEW.once = 'campaign:' || r.campaign_id || ':' || r.id
    )
    WHERE id = NEW.id;
END
"""

_FUNCTION = """
CREATE FUNCTION messages_recipient() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SELECT r.id INTO NEW.recipient_id FROM campaign_recipients r
    WHERE r.campaign_id = NEW.campaign_id AND r.phone = NEW.phone
    AND NEW.once = 'campaign:' || r.campaign_id || ':' || r.id;
    RETURN NEW;
END
$$
"""

_TRIGGER_OF_POSTGRESQL = """
CREATE TRIGGER messages_recipient BEFORE INSERT ON messages FOR EACH ROW
WHEN (NEW.recipient_id IS NULL AND NEW.campaign_id IS NOT NULL AND NEW.once IS NOT NULL)
EXECUTE PROCEDURE messages_recipient()
"""


def upgrade() -> None:
    """Adds a column that may be empty; the next migration fills it.

    Daemons of 0.1.0 go on beside and do not know it: a trigger fills it in what they add. It asks nothing of the
    messages of newer daemons, and a new database, beside which no older daemon starts, has none.
    """
    if _is_sqlite():
        op.execute(_ADD_TO_SQLITE)
        op.create_index("ix_messages_recipient_id", "messages", ["recipient_id"], unique=False)
        op.execute(_TRIGGER_OF_SQLITE)
        return
    op.add_column("messages", sa.Column("recipient_id", Id, nullable=True))
    op.create_index("ix_messages_recipient_id", "messages", ["recipient_id"], unique=False)
    op.create_foreign_key(
        op.f("fk_messages_recipient_id"),
        *("messages", "campaign_recipients", ["recipient_id"], ["id"]),
        ondelete="SET NULL",
    )
    op.execute(_FUNCTION)
    op.execute(_TRIGGER_OF_POSTGRESQL)


def downgrade() -> None:
    """Removes it."""
    if _is_sqlite():
        op.execute("DROP TRIGGER messages_recipient")
    else:
        op.execute("DROP TRIGGER messages_recipient ON messages")
        op.execute("DROP FUNCTION messages_recipient()")
    op.drop_index("ix_messages_recipient_id", table_name="messages")
    op.drop_column("messages", "recipient_id")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
