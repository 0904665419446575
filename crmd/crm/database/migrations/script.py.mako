"""${message}."""

import sqlalchemy as sa
from alembic import op
from crmd.crm.database.types import Id, Instant, Json

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Removes them."""
    ${downgrades if downgrades else "pass"}
