"""The shipped `config.toml` and the reference page say what the code says."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from crmd.config import schema
from crmd.config.load import load
from crmd.config.model import RESERVED_TABLES, Settings
from crmd.config.tables import DefaultsTable
from docs import generate

SHIPPED = generate.ROOT / "config.toml"


@pytest.mark.parametrize("path", generate.PAGES)
def test_generated_pages_are_up_to_date(path: str) -> None:
    assert (generate.ROOT / path).read_text(encoding="utf-8") == generate.PAGES[path](), "run: make docs"


def test_the_shipped_file_changes_nothing(tmp_path: Path) -> None:
    loaded = load(path=SHIPPED, environ={"STATE_DIRECTORY": str(tmp_path)}, cwd=tmp_path)

    assert loaded.warnings == []
    assert set(loaded.sources.values()) == {"default", "environment STATE_DIRECTORY"}
    assert loaded.settings.queue_settings() == Settings().queue_settings()


def test_with_every_key_uncommented_the_shipped_file_still_has_the_defaults() -> None:
    settings = Settings.model_validate(_uncommented())

    assert set(settings.schedules) == {"hourly_snapshot", "daily_snapshot", "flow_sweep", "monday_reminder"}
    assert set(settings.auth.tokens) == {"shop"}
    assert set(settings.notify.channels) == {"team"}
    assert set(settings.webhook.endpoints) == {"shop"}
    assert settings.queue_settings() == Settings().queue_settings()
    without_examples = settings.model_dump()
    without_examples["schedules"].pop("monday_reminder")
    without_examples["auth"]["tokens"] = {}
    without_examples["notify"]["channels"] = {}
    without_examples["webhook"]["endpoints"] = {}
    assert without_examples == Settings().model_dump()


def test_the_shipped_file_shows_every_key() -> None:
    shown = set(_keys(_uncommented()))
    shared = set(DefaultsTable.model_fields)
    either_or = {("schedules", "every")}

    for path, _ in schema.leaves():
        # A list of tables is one key; a queue may have each key of [defaults], which are shown there.
        plain = tuple(key for key in path if key != schema.NAME)
        if plain[0] == "queues" and plain[1] in shared:
            plain = ("defaults", *plain[1:])
        if plain not in either_or:
            assert plain in shown


def test_every_key_of_the_shipped_file_has_its_comment() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()

    for before, line in pairwise(lines):
        if re.match(r"#\w+ = ", line):
            assert before.startswith("# ")
            assert before.endswith(".")


def test_the_page_has_every_key() -> None:
    page = generate.settings_markdown()

    for path, _ in schema.leaves():
        key = schema.dotted(path[path.index(schema.NAME) + 1 :] if schema.NAME in path else path[1:])
        assert f"| `{key}` |" in page
    for table in RESERVED_TABLES:
        assert f"`[{table}]`" in page


def test_every_key_has_a_meaning() -> None:
    for path, _ in schema.leaves():
        table, above = schema.node_at(()), 0
        for length in range(1, len(path)):
            node = schema.node_at(path[:length])
            table, above = (node, length) if isinstance(node, type) else (table, above)
        assert isinstance(table, type)
        assert generate.meaning(table, path[above:]).endswith("."), path


def _uncommented() -> dict[str, Any]:
    return tomllib.loads(re.sub(r"(?m)^#(?=[\w\[])", "", SHIPPED.read_text(encoding="utf-8")))


def _keys(data: dict[str, Any], above: tuple[str, ...] = (), full: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of a nested table, without the names that users give."""
    keys: list[tuple[str, ...]] = []
    for key, value in data.items():
        named = isinstance(schema.node_at(full), schema.Named)
        path = above if named else (*above, key)
        node = schema.node_at((*full, key))
        if isinstance(value, dict) and not isinstance(node, FieldInfo):
            keys += _keys(value, path, (*full, key))
        else:
            keys.append(path)
    return keys
