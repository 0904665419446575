"""Fills in which recipient each message of a campaign is for, from the word of its `once`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BATCH = 5_000
"""Ids of one transaction: while it lasts nobody else changes these rows."""

_FILL = sa.text(
    """
    UPDATE messages SET recipient_id = (
        SELECT r.id FROM campaign_recipients r
        WHERE r.campaign_id = messages.campaign_id AND r.phone = messages.phone
        AND messages.once = 'campaign:' || r.campaign_id || ':' || r.id
    )
    WHERE id > :after AND id <= :last
    AND recipient_id IS NULL AND campaign_id IS NOT NULL AND once IS NOT NULL
    """
)


def prepare(connection: sa.Connection, after: int) -> int | None:
    """Fills the rows of the next ids behind one; returns the last of these, None once there are no more."""
    newest = connection.execute(sa.text("SELECT max(id) FROM messages")).scalar() or 0
    if after >= newest:
        return None
    connection.execute(_FILL, {"after": after, "last": after + BATCH})
    return after + BATCH


def upgrade() -> None:
    """Fills what `prepare` has not filled."""
    last: int | None = 0
    while last is not None:
        last = prepare(op.get_bind(), last)


def downgrade() -> None:
    """Leaves the column as it is."""
