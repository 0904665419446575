"""Inserts that say what to do if the row exists, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.database.base import Base

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    Insert = postgresql.Insert | sqlite.Insert


def insert_into(s: AsyncSession, table: type[Base]) -> Insert:
    """An INSERT that takes `on_conflict_do_nothing()` and `on_conflict_do_update()`: both databases have them."""
    # Only the one that is there is loaded: PostgreSQL's takes some 2 MiB.
    if s.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
