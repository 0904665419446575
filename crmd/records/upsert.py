"""Inserts that know what to do where the row is there already, on both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.records.tables import Base

Insert = postgresql.Insert | sqlite.Insert


def insert_into(s: AsyncSession, table: type[Base]) -> Insert:
    """An INSERT that takes `on_conflict_do_nothing()` and `on_conflict_do_update()`: both databases have them."""
    dialect: Any = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    insert: Insert = dialect.insert(table)
    return insert
