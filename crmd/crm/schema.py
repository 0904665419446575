"""The tables of all features, for Alembic and for a new database. `database` knows none of them."""

from __future__ import annotations

import importlib

from crmd.crm.database.base import Base
from crmd.crm.database.migrate import MIGRATIONS, Schema
from crmd.crm.features import FEATURES

for _feature in FEATURES:
    if _feature.tables:
        importlib.import_module(_feature.tables)

SCHEMA = Schema(Base.metadata, MIGRATIONS, head="0005")
"""A test holds `head` against the folder, and the tables against what the migrations make."""
