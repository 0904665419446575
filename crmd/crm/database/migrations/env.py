"""Alembic's entry: runs migrations on the connection that `migrate` hands over."""

from alembic import context

from crmd.crm.database.base import Base

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=Base.metadata,
    version_table=attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
