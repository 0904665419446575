"""Who uploaded a file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column that may be empty: a daemon of the version before goes on beside."""
    op.add_column("files", sa.Column("owner", sa.String(), nullable=True))
    op.create_index("ix_files_owner", "files", ["owner", "expires_at"], unique=False)


def downgrade() -> None:
    """Removes it."""
    op.drop_index("ix_files_owner", table_name="files")
    op.drop_column("files", "owner")
