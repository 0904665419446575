"""Shows the configuration in force: each key, its value with secrets masked, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

from crmd.config import schema
from crmd.config.load import DEFAULT, Loaded, queue_source
from crmd.config.tables import QueueTable, SettingsTable


class SettingRow(NamedTuple):
    """One key of the effective configuration."""

    key: str
    value: str
    """As `config.toml` would have it, secrets masked."""
    source: str


def render_effective(loaded: Loaded) -> list[SettingRow]:
    """Every key in force. A queue shows only where it differs from `[defaults]`; nothing in it is secret."""
    rows: list[SettingRow] = []
    for name, table in loaded.settings:
        if name == "queues":
            of_queues = (row for queue in table for row in render_queue(loaded, queue))
            rows += (row for row in of_queues if not row.source.startswith(_INHERITED))
        else:
            rows += _rows(loaded, table, (name,))
    return rows


def render_queue(loaded: Loaded, name: str) -> list[SettingRow]:
    """Every setting in force of one queue, with where it came from."""
    values = loaded.settings.queues[name].model_dump()
    rows: list[SettingRow] = []
    for path, _ in schema.leaves(QueueTable):
        key = schema.dotted(path)
        source = queue_source(loaded.sources, name, key)
        inherited = f"{_INHERITED}{loaded.sources.get(f'defaults.{key}', DEFAULT)}"
        rows.append(
            SettingRow(f"queues.{name}.{key}", toml_text(reduce(getitem, path, values)), source or inherited)
        )
    return rows


def toml_text(value: object) -> str:
    """A value on one line of TOML; None, which TOML does not have, is empty."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_text(entry)}" for key, entry in value.items() if entry is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_text(entry) for entry in value)}]"
    return "" if value is None else json.dumps(value, ensure_ascii=False)


_INHERITED = "[defaults]: "


def _rows(
    loaded: Loaded, table: SettingsTable | dict[str, SettingsTable], above: tuple[str, ...]
) -> Iterator[SettingRow]:
    if isinstance(table, dict):
        for name, entry in table.items():
            yield from _rows(loaded, entry, (*above, name))
        return
    values: dict[str, Any] = table.model_dump()
    for path, _ in schema.leaves(type(table)):
        if schema.NAME not in path:
            key = schema.dotted((*above, *path))
            yield SettingRow(key, toml_text(reduce(getitem, path, values)), loaded.sources.get(key, DEFAULT))
    for name, entry in table:
        if isinstance(schema.node_at((*above, name)), schema.Named):
            yield from _rows(loaded, entry, (*above, name))
