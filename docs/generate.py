"""Writes what follows from the code: `config.toml`, the reference of settings and error codes, payloads."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

from pydantic.fields import FieldInfo

from crmd.config import schema
from crmd.config.model import RESERVED_TABLES, Settings
from crmd.config.render import toml_text
from crmd.config.shipped import SHIPPED_QUEUES, SHIPPED_SCHEDULES
from crmd.config.tables import (
    ChannelTable,
    EndpointTable,
    LimitTable,
    QueueTable,
    ScheduleTable,
    SettingsTable,
    TokenTable,
)
from docs import payloads, whatsapp_errors

ROOT = Path(__file__).parent.parent

_EXAMPLES: dict[type[SettingsTable], tuple[str, dict[str, object]]] = {
    TokenTable: (
        "auth.tokens.shop",
        {"sha256": "0" * 64, "scopes": ["enqueue", "read", "operate"], "queues": ["message"]},
    ),
    ChannelTable: ("notify.channels.team", {"url": "slack://T0/B0/secret", "level": "warning"}),
    EndpointTable: (
        "webhook.endpoints.shop",
        {"url": "https://shop.example.com/hook", "secret": f"whsec_{'A' * 32}", "events": ["message.*"]},
    ),
    ScheduleTable: (
        "schedules.monday_reminder",
        {
            "queue": "notification",
            "job": "notify",
            "cron": "0 9 * * mon",
            "timezone": "Europe/Berlin",
            "missed": "once",
            "payload": {"message": "look at the report"},
        },
    ),
}
"""The tables that have no default, each with what the shipped file shows."""

_CONFIG_HEAD = """\
# The configuration of crmd. Each key is here with its default, commented out: remove the "#" and change it.
# Durations are text with a unit ("500ms", "30s", "10m", "2h", "1d", or "none" where that is possible), rates are a
# count and a period ("20/min", "80/s", "100/10s"). A secret KEY may be given as KEY_file, the path of its file.
# The environment overrides this file: CRMD_HTTP__PORT is [http] port. "crmd check" shows what is in force and why.
"""

_PAGE_HEAD = """\
# Settings

`crmd` reads its configuration from the file that `--config` names, else `$CRMD_CONFIG`, else `./config.toml` (only
if you own it and nobody else may write it), else `/etc/crmd/config.toml`. Without a file the defaults hold.
`crmd check` shows every setting in force and where it came from, or every mistake at once.

**Order**: the first that sets a key wins.

1. The command line.
2. `CRMD_*` variables: `CRMD_` + table + `__` + key, such as `CRMD_HTTP__PORT` or
   `CRMD_QUEUES__MESSAGE__RATE_LIMIT`. Tables and lists are JSON or TOML; a list may also be comma-separated
   words.
3. `REDIS_URL` and `DATABASE_URL`.
4. systemd credentials: files in `$CREDENTIALS_DIRECTORY` named by the key with underscores, such as
   `auth_password`.
5. The file.
6. The names of the system that crmd replaces: `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, `REDIS_DB`,
   `BULL_BOARD_USERNAME`, `BULL_BOARD_PASSWORD`.
7. The defaults.

An empty variable counts as unset. An unknown key in the file is an error, an unknown `CRMD_*` variable a warning.
A relative path in the file is relative to the file's folder; elsewhere, to the working folder.

**Durations** are text with a unit: `"500ms"`, `"30s"`, `"10m"`, `"2h"`, `"1d"`, and `"none"` where the tables
below say so. A bare number is refused, because Bull's were milliseconds. **Rates** are a count and a period:
`"20/min"`, `"80/s"`, `"100/10s"`, `"1/6s"`.

**Secrets**: a secret, and the store's URL, may be given as `KEY_file` instead, the path of a file that only its
owner may read. A newline at the file's end is not part of the secret.
"""


def config_toml() -> str:
    """The shipped `config.toml`."""
    return "\n".join([_CONFIG_HEAD, *(line for name in _tables() for line in _toml_of(name))]).rstrip("\n") + "\n"


def queue_page(path: str) -> str:
    """A page of `docs/queues` with the tables of its payloads written again."""
    return payloads.with_payloads((ROOT / path).read_text(encoding="utf-8"), payloads.PAGES[path])


def settings_markdown() -> str:
    """The page `docs/reference/settings.md`."""
    parts = [_PAGE_HEAD]
    for name in _tables():
        for title, table in _sections(name):
            parts += [f"## {title}", "", inspect.getdoc(table) or "", "", *_rows(table), ""]
        if name == "queues":
            parts += ["## The shipped queues", "", "They differ from `[defaults]` in:", "", *_shipped_rows(), ""]
        if name == "schedules":
            parts += ["## The shipped schedules", "", _SHIPPED_SCHEDULES_TEXT, "", *_schedule_rows(), ""]
    reserved = ", ".join(f"`[{name}]`" for name in RESERVED_TABLES)
    parts += ["## Reserved tables", "", f"Not used in this version: {reserved}.", ""]
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "config.toml": config_toml,
    "docs/reference/settings.md": settings_markdown,
    "docs/reference/whatsapp-errors.md": whatsapp_errors.page,
    **{path: partial(queue_page, path) for path in payloads.PAGES},
}
"""Each generated file, by its path in the project, with what writes it."""


def main() -> None:
    """Writes every generated file again."""
    for path, text in PAGES.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text(), encoding="utf-8")


def _tables() -> list[str]:
    return [name for name in Settings.model_fields if name not in RESERVED_TABLES]


def _sections(name: str) -> Iterator[tuple[str, type[SettingsTable]]]:
    """The tables that the page shows for one top-level table, with their titles."""
    node = schema.node_at((name,))
    if isinstance(node, schema.Named):
        yield f"`[{name}.NAME]`", node.table
        if node.table is QueueTable:
            yield "Entries of `limits`", LimitTable
    elif isinstance(node, type):
        yield f"`[{name}]`", node
        for key in node.model_fields:
            below = schema.node_at((name, key))
            if isinstance(below, schema.Named):
                yield f"`[{name}.{key}.NAME]`", below.table


def _rows(table: type[SettingsTable]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for path, leaf in schema.leaves(table):
        if schema.NAME not in path:
            cells = [f"`{schema.dotted(path)}`", _type(leaf), _default_cell(table, path), meaning(table, path)]
            yield f"| {' | '.join(cells)} |"


def _shipped_rows() -> Iterator[str]:
    yield "| queue | settings |"
    yield "|---|---|"
    for name, keys in SHIPPED_QUEUES.items():
        shown = ", ".join(f"`{key} = {toml_text(value)}`" for key, value in keys.items())
        yield f"| {name} | {shown or 'those of `[defaults]`'} |"


_SHIPPED_SCHEDULES_TEXT = """\
They always exist. A table of that name changes the keys that it sets (`enabled = false` switches the schedule
off); one with its own `job` replaces the schedule."""


def _schedule_rows() -> Iterator[str]:
    yield "| schedule | settings |"
    yield "|---|---|"
    for name, keys in SHIPPED_SCHEDULES.items():
        yield f"| {name} | {', '.join(f'`{key} = {toml_text(value)}`' for key, value in keys.items())} |"


def _type(leaf: FieldInfo) -> str:
    words = re.sub("^an? ", "", schema.expected(leaf)).replace("|", "\\|")
    return f"secret {words.removesuffix(' in quotes')}" if schema.is_secret(leaf) else words


def meaning(table: type[SettingsTable], path: tuple[str, ...]) -> str:
    """What a key means: the string below it in the source."""
    owner = schema.node_at(path[:-1], table)
    tables = [each for each in getattr(owner, "__mro__", ()) if issubclass(each, SettingsTable)]
    return next(strings[path[-1]] for strings in map(_strings, tables) if path[-1] in strings)


@cache
def _strings(table: type[SettingsTable]) -> dict[str, str]:
    """The strings below the keys of a table, by key."""
    [node] = ast.parse(inspect.getsource(table)).body
    found = {}
    for key, below in pairwise(node.body if isinstance(node, ast.ClassDef) else []):
        if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and isinstance(below, ast.Expr):
            found[key.target.id] = str(ast.literal_eval(below.value))
    return found


def _default_cell(table: type[SettingsTable], path: tuple[str, ...]) -> str:
    value = _default(table, path)
    if table is QueueTable and path[0] not in ("rate_limit", "limits"):
        return "from `[defaults]`"
    if value is None:
        return "required" if table.model_fields[path[0]].is_required() else ""
    return f"`{toml_text(value)}`"


def _default(table: type[SettingsTable], path: tuple[str, ...]) -> object:
    """A key's default as `config.toml` has it; None where it has none."""
    node = table.model_fields[path[0]]
    if node.is_required():
        return None
    value: object = table.model_construct().model_dump(include={path[0]})
    for key in path:
        value = value[key] if isinstance(value, dict) else None
    return value


def _toml_of(name: str) -> Iterator[str]:
    """The lines of one top-level table in the shipped file."""
    node = schema.node_at((name,))
    if isinstance(node, type):
        yield f"# {_summary(node)}"
        yield from _toml_table(name, node, {key: _default(node, (key,)) for key in node.model_fields})
    for table, (title, example) in _EXAMPLES.items():
        if title.startswith(f"{name}."):
            yield from _toml_example(title, table, example)
    if name == "queues":
        yield "# The shipped queues, with what differs from [defaults]. Their other keys may be set here too."
        for queue, keys in SHIPPED_QUEUES.items():
            yield from _toml_table(f"queues.{queue}", QueueTable, dict(keys))
    if name == "schedules":
        yield "# The shipped schedules. A table with a job of its own replaces the schedule."
        for schedule, keys in SHIPPED_SCHEDULES.items():
            yield from _toml_table(f"schedules.{schedule}", ScheduleTable, {"enabled": True, **keys})


def _toml_table(title: str, table: type[SettingsTable], values: dict[str, object]) -> Iterator[str]:
    yield f"[{title}]"
    for key, value in values.items():
        if isinstance(schema.node_at((*title.split("."), key)), schema.Named):
            continue
        yield f"# {meaning(table, (key,))}"
        yield f"#{key} = {toml_text(value)}"
    yield ""


def _toml_example(title: str, table: type[SettingsTable], values: dict[str, object]) -> Iterator[str]:
    yield f"# {_summary(table)}"
    yield f"#[{title}]"
    for key, value in values.items():
        yield f"# {meaning(table, (key,))}"
        yield f"#{key} = {toml_text(value)}"
    yield ""


def _summary(table: type[SettingsTable]) -> str:
    return (inspect.getdoc(table) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
