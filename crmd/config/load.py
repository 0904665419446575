"""Reads the configuration from all its sources, and finds every mistake at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from crmd.config import schema, sources
from crmd.config.files import SYSTEM_CONFIG, SYSTEM_STATE_DIR, ConfigFile, default_state_dir, find_and_read
from crmd.config.model import Settings
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.config.sources import STATE_DIR, ConfigPlace, Layer, SourcedValue
from crmd.errors import ConfigError, Problem
from crmd.formatting import show

DEFAULT = "default"
SHIPPED = "shipped with the queue"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force, and what is to be said about it."""

    settings: Settings
    sources: dict[str, str]
    """Where each key's value came from, by dotted key; keys of queues, tokens and schedules only where set."""
    path: Path | None
    """The file that was read, if any."""
    warnings: list[str]
    """One line each; nothing in them is secret."""


def load(
    *,
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    cwd: Path,
    system_config: Path = SYSTEM_CONFIG,
    system_state_dir: Path = SYSTEM_STATE_DIR,
) -> Loaded:
    """Reads and checks the configuration; has no side effects, so it may be called again for a reload.

    `path` is what `--config` named; `overrides` are the command line's by dotted key, None for what was not given.
    `system_config` and `system_state_dir` are where a packaged installation has its own. Raises ConfigError with
    every problem there is.
    """
    file = find_and_read(path, environ, cwd, system_config)
    from_file = ConfigPlace(file.path.parent if file.path else cwd, environ, warnings=list(file.warnings))
    from_file.put_table(file.data, str(file.path))
    places = [
        from_file,
        sources.from_credentials(environ),
        sources.from_platform(environ, cwd),
        sources.from_variables(environ, cwd),
        sources.from_command_line(overrides or {}, cwd, environ),
    ]
    merged = reduce(lambda low, place: low | place.layer, places, Layer())
    places.append(sources.from_old_names(environ, cwd, merged))
    merged = places[-1].layer | merged
    problems = [problem for place in places for problem in place.problems]
    problems += sources.read_secret_files(merged, environ)
    problems += _find_state_dir(merged, environ, system_state_dir)
    settings = _validate(merged, problems)
    origins = {schema.dotted(key): DEFAULT for key, _ in schema.leaves() if schema.NAME not in key}
    origins |= {schema.dotted(key): entry.source for key, entry in merged.items() if entry.value != {}}
    warnings = [warning for place in places for warning in place.warnings]
    return Loaded(settings, origins, file.path, [*warnings, *_remarks(settings, origins, file)])


def queue_source(origins: Mapping[str, str], queue: str, key: str) -> str | None:
    """Where a queue's setting came from; None where that is `[defaults]`."""
    own = first_below(origins, f"queues.{queue}.{key}")
    return own or (SHIPPED if key in SHIPPED_QUEUES.get(queue, {}) else None)


def first_below(origins: Mapping[str, str], key: str) -> str | None:
    """The source of a key, or of the first that is set inside its table."""
    inside = (source for name, source in origins.items() if name.startswith(f"{key}.") and source != DEFAULT)
    return origins.get(key) or next(inside, None)


def _find_state_dir(merged: Layer, environ: Mapping[str, str], system_state_dir: Path) -> Iterator[Problem]:
    """Finds the state folder where none is set."""
    if STATE_DIR not in merged or merged[STATE_DIR].value == "":
        try:
            merged[STATE_DIR] = SourcedValue(*default_state_dir(environ, system_state_dir))
        except ValueError as error:
            yield Problem(DEFAULT, schema.dotted(STATE_DIR), str(error))


def _validate(merged: Layer, problems: list[Problem]) -> Settings:
    data = sources.tree(merged)
    added = data.get("queues")
    queues = {**SHIPPED_QUEUES, **(added if isinstance(added, dict) else {})}
    try:
        settings = Settings.model_validate(data, context={"queues": list(queues)})
    except ValidationError as error:
        mistakes = (
            mistake for mistake in error.errors(include_url=False) if not _inherited(mistake["loc"], merged)
        )
        raise ConfigError(problems + [_problem(mistake, data, merged) for mistake in mistakes]) from None
    if problems:
        raise ConfigError(problems)
    return settings


def _inherited(path: schema.KeyPath, merged: Layer) -> bool:
    """Whether a mistake in a queue is one of `[defaults]`, which is named beside it."""
    given = (key for key, entry in merged.items() if key[: len(path)] == path or entry.value != {})
    named = path[-1] == schema.KEY or any(key[: len(path)] == path[: len(key)] for key in given)
    return path[0] == "queues" and not named


def _problem(mistake: Mapping[str, Any], data: Mapping[str, Any], merged: Layer) -> Problem:
    """One mistake that the schema found, in our words and with its place."""
    path: schema.KeyPath = mistake["loc"]
    node, given = schema.node_at(path), _given(data, path, mistake["input"])
    path = path[:-1] if path[-1] == schema.KEY else path
    match mistake["type"]:
        case "extra_forbidden":
            reason = schema.unknown_key(path)
        case "missing":
            reason = "is missing"
        case "model_type" | "dict_type":
            reason = "must be a table"
        case "value_error" if str(mistake["ctx"]["error"]):
            reason = str(mistake["ctx"]["error"])
        case _ if isinstance(node, FieldInfo):
            reason = f"must be {schema.expected(node)}"
            if node.repr and not schema.is_secret(node):
                reason += f", not {show(given)}"
        case _:
            reason = str(mistake["msg"])
    return Problem(_source_of(merged, path), schema.dotted(path), reason)


def _given(data: Any, path: schema.KeyPath, otherwise: object) -> object:
    """The value at a path as it was given: what a validator refused may be what another made of it."""
    for key in path:
        try:
            data = data[key]
        except (LookupError, TypeError):
            return otherwise
    return data


def _source_of(merged: Layer, path: schema.KeyPath) -> str:
    """Where the value at a path, or the nearest one around it, came from."""
    for length in range(len(path), 0, -1):
        for known, entry in merged.items():
            if known[:length] == path[:length]:
                return entry.source
    return DEFAULT


def _remarks(settings: Settings, origins: Mapping[str, str], file: ConfigFile) -> Iterator[str]:
    """What is no mistake and yet worth a line."""
    for name, table in settings.queues.items():
        if name not in SHIPPED_QUEUES and not table.handlers:
            close = get_close_matches(name, SHIPPED_QUEUES, 1)
            hint = f'; did you mean "{close[0]}"?' if close else "; name some with handlers"
            yield f"queues.{name}: is a queue of its own without handlers, and does no job{hint}"
    if settings.redis.url:
        for key in ("redis.listen", "redis.fsync", "redis.server"):
            if origins[key] != DEFAULT:
                yield f"{origins[key]}: {key}: has no effect, because redis.url names another store"
    if file.open_to_all and any(origins[key] == str(file.path) for key in _secrets_set(settings)):
        yield f"{file.path}: has secrets and is readable by every user; run: chmod 600 {file.path}"


def _secrets_set(settings: Settings) -> Iterator[str]:
    """The dotted keys of the secrets that are not empty."""
    for path, leaf in schema.leaves():
        if schema.is_secret(leaf) and schema.NAME not in path and reduce(getattr, path, cast(Any, settings)):
            yield schema.dotted(path)
