"""Shows the configuration in force: each key, its value with secrets masked, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crmd.config import schema
from crmd.config.load import DEFAULT, Loaded
from crmd.config.queue_tables import QueueTable, Table

SHIPPED = "shipped with the queue"


class Row(NamedTuple):
    """One key of the effective configuration."""

    key: str
    value: str
    """As `config.toml` would have it, secrets masked."""
    source: str


def render_effective(loaded: Loaded) -> list[Row]:
    """Every key in force. A queue shows only where it differs from `[defaults]`; nothing in it is secret."""
    rows: list[Row] = []
    for table in type(loaded.settings).model_fields:
        if table == "queues":
            for name in loaded.settings.queue_settings():
                rows += (row for row in render_queue(loaded, name) if not _inherited(row))
        else:
            rows += _rows(loaded, getattr(loaded.settings, table), (table,))
    return rows


def render_queue(loaded: Loaded, name: str) -> list[Row]:
    """Every setting in force of one queue, with where it came from."""
    own, shipped, defaults = loaded.settings.queue_tables(name)
    rows: list[Row] = []
    for path, _ in schema.leaves(QueueTable):
        key = schema.dotted(path)
        dotted = f"queues.{name}.{key}"
        if _is_set(own, path):
            rows.append(Row(dotted, _value(own, path), _source(loaded, f"queues.{name}", path)))
        elif _is_set(shipped, path):
            rows.append(Row(dotted, _value(shipped, path), SHIPPED))
        else:
            table: Table = defaults if path[0] in type(defaults).model_fields else own
            source = loaded.sources.get(f"defaults.{key}", DEFAULT)
            rows.append(Row(dotted, _value(table, path), f"{_INHERITED}{source}"))
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


def _inherited(row: Row) -> bool:
    return row.source.startswith(_INHERITED)


def _rows(loaded: Loaded, table: Any, above: schema.Path) -> Iterator[Row]:
    if isinstance(table, dict):
        for name, entry in table.items():
            yield from _rows(loaded, entry, (*above, name))
        return
    for path, _ in schema.leaves(type(table)):
        if schema.NAME not in path:
            key = schema.dotted((*above, *path))
            yield Row(key, _value(table, path), loaded.sources.get(key, DEFAULT))
    for name, field in table:
        if isinstance(field, dict) and isinstance(schema.node_at((*above, name)), schema.Named):
            yield from _rows(loaded, field, (*above, name))


def _value(table: Table, path: schema.Path) -> str:
    value: Any = table.model_dump()
    for key in path:
        value = value[key]
    return toml_text(value)


def _is_set(table: Table, path: schema.Path) -> bool:
    if path[0] not in table.model_fields_set:
        return False
    return len(path) == 1 or _is_set(getattr(table, path[0]), path[1:])


def _source(loaded: Loaded, above: str, path: schema.Path) -> str:
    return loaded.sources.get(f"{above}.{schema.dotted(path)}", DEFAULT)
