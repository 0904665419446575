"""Reads the configuration from all its places; finds every mistake at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from crmd.config import environment, schema
from crmd.config.files import SYSTEM_CONFIG, ConfigFile, find_and_read
from crmd.config.folders import SYSTEM_STATE_DIR, absolute, default_state_dir
from crmd.config.layers import Entry, Layer, doubled_secrets, flatten, lay_over, source_of, tree
from crmd.config.model import Settings, mistakes_between_tables
from crmd.config.queue_tables import is_queue_name
from crmd.config.secret import Secret, read_secret_file
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.errors import ConfigError, Problem
from crmd.formatting import is_clean

COMMAND_LINE = "command line"
DEFAULT = "default"

_STATE_DIR = ("daemon", "state_dir")
_PATHS = (_STATE_DIR, ("redis", "server"))


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
    merged, problems, warnings = _gather(file, environ, overrides or {}, cwd)
    problems += _read_secret_files(merged, environ)
    problems += _fill_paths(merged, environ, system_state_dir)
    settings = _validate(merged, problems)
    sources = _sources(merged)
    warnings += _remarks(settings, sources, file)
    return Loaded(settings, sources, file.path, warnings)


def _gather(
    file: ConfigFile, environ: Mapping[str, str], overrides: Mapping[str, Any], cwd: Path
) -> tuple[Layer, list[Problem], list[str]]:
    """All places' values laid over each other, lowest first, with the mistakes and warnings of reading them."""
    folder = file.path.parent if file.path else cwd
    from_file = environment.Found(flatten(file.data, str(file.path), folder), warnings=list(file.warnings))
    places = [
        from_file,
        environment.from_credentials(environ),
        environment.from_platform(environ, cwd),
        environment.from_variables(environ, cwd),
        _from_command_line(overrides, cwd),
    ]
    merged: Layer = {}
    for place in places:
        place.problems += doubled_secrets(place.layer)
        merged = lay_over(merged, place.layer)
    places.append(environment.from_old_names(environ, cwd, merged))
    merged = lay_over(places[-1].layer, merged)
    problems = [problem for place in places for problem in place.problems]
    return merged, problems, [warning for place in places for warning in place.warnings]


def _from_command_line(overrides: Mapping[str, Any], cwd: Path) -> environment.Found:
    found = environment.Found()
    for key, value in overrides.items():
        path = tuple(key.split("."))
        if isinstance(value, str):
            found.layer |= environment.text_entries(path, value, COMMAND_LINE, cwd)
        elif value is not None:
            found.layer[path] = Entry(value, COMMAND_LINE, cwd)
    return found


def _read_secret_files(merged: Layer, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Puts what `X_file` names into `X`."""
    guarded = environ.get(environment.CREDENTIALS_VARIABLE)
    for path in [path for path in merged if schema.secret_of(path)]:
        secret, entry = schema.secret_of(path), merged.pop(path)
        if entry.value == "" or secret is None or (secret in merged and merged[secret].value != ""):
            continue
        if not isinstance(entry.value, str | Path) or not is_clean(str(entry.value)):
            yield Problem(entry.source, schema.dotted(path), "must be a path in quotes")
            continue
        file = absolute(Path(entry.value), entry.folder, environ)
        try:
            text = read_secret_file(file, Path(guarded) if guarded else None)
        except ValueError as error:
            yield Problem(entry.source, schema.dotted(path), str(error))
        else:
            merged[secret] = Entry(text, f"{entry.source}, from {file}", entry.folder)


def _fill_paths(merged: Layer, environ: Mapping[str, str], system_state_dir: Path) -> Iterator[Problem]:
    """Makes paths absolute, and finds the state folder where none is set."""
    for path in _PATHS:
        entry = merged.get(path)
        # A program without a slash is one to look for on PATH.
        is_word = path != _STATE_DIR and entry is not None and "/" not in str(entry.value)
        if entry is None or not isinstance(entry.value, str | Path) or not str(entry.value) or is_word:
            continue
        merged[path] = Entry(absolute(Path(entry.value), entry.folder, environ), entry.source, entry.folder)
    if _STATE_DIR not in merged or merged[_STATE_DIR].value == "":
        try:
            folder, source = default_state_dir(environ, system_state_dir)
        except ValueError as error:
            yield Problem(DEFAULT, schema.dotted(_STATE_DIR), str(error))
        else:
            merged[_STATE_DIR] = Entry(folder, source, folder)


def _validate(merged: Layer, problems: list[Problem]) -> Settings:
    data = tree(merged)
    added = data.get("queues")
    names = added if isinstance(added, dict) else ()
    known = [*SHIPPED_QUEUES, *(name for name in names if name not in SHIPPED_QUEUES and is_queue_name(name))]
    try:
        settings = Settings.model_validate(data, context={"queues": known})
    except ValidationError as error:
        raise ConfigError(problems + [_problem(entry, merged) for entry in error.errors()]) from None
    between = [
        Problem(source_of(merged, path), schema.dotted(path), reason)
        for path, reason in mistakes_between_tables(settings)
    ]
    if problems or between:
        raise ConfigError(problems + between)
    return settings


def _problem(error: Mapping[str, Any], merged: Layer) -> Problem:
    """One mistake that the schema found, in our words and with its place."""
    location: tuple[str | int, ...] = tuple(part for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "extra_forbidden":
            reason = schema.unknown_key(location)
        case "missing":
            reason = "is missing"
        case "value_error":
            reason = str(error["ctx"]["error"])
        case "model_type" | "dict_type":
            reason = "must be a table"
        case _:
            reason = str(error["msg"])
    return Problem(source_of(merged, location), schema.dotted(location), reason)


def _sources(merged: Layer) -> dict[str, str]:
    sources = {schema.dotted(path): DEFAULT for path, _ in schema.leaves() if schema.NAME not in path}
    return sources | {schema.dotted(path): entry.source for path, entry in merged.items() if entry.value != {}}


def _remarks(settings: Settings, sources: Mapping[str, str], file: ConfigFile) -> Iterator[str]:
    """What is no mistake and yet worth a line."""
    for name, resolved in settings.queue_settings().items():
        if name not in SHIPPED_QUEUES and not resolved.handlers:
            close = get_close_matches(name, SHIPPED_QUEUES, 1)
            hint = f'; did you mean "{close[0]}"?' if close else "; name some with handlers"
            yield f"queues.{name}: is a queue of its own without handlers, and does no job{hint}"
    if settings.redis.url.get_secret_value():
        for key in ("redis.listen", "redis.fsync", "redis.server"):
            if sources[key] != DEFAULT:
                yield f"{sources[key]}: {key}: has no effect, because redis.url names another store"
    if file.open_to_all and any(sources[key] == str(file.path) for key in _secrets_set(settings)):
        yield f"{file.path}: has secrets and is readable by every user; run: chmod 600 {file.path}"


def _secrets_set(settings: Settings) -> Iterator[str]:
    """The dotted keys of the secrets that are not empty."""
    for path, leaf in schema.leaves():
        if isinstance(leaf.rule, Secret) and schema.NAME not in path:
            secret = cast(SecretStr, reduce(getattr, path, cast(Any, settings)))
            if secret.get_secret_value():
                yield schema.dotted(path)
