"""Where values come from: the file, credentials, the environment, the command line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic.fields import FieldInfo

from crmd.config import schema
from crmd.config.files import CONFIG_VARIABLE, absolute, read_secret_file
from crmd.config.model import RESERVED_TABLES
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.errors import Problem
from crmd.formatting import is_clean, show

PREFIX = "CRMD_"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
COMMAND_LINE = "command line"
REDIS_DEFAULT_PORT = 6379
STATE_DIR = ("daemon", "state_dir")

_PATHS = (STATE_DIR, ("redis", "server"))
_NEAR = 0.75
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

# Kubernetes sets these for a service that is named crmd.
_KUBERNETES = re.compile(r"CRMD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")


@dataclass(frozen=True, slots=True)
class SecretFile:
    """The value of `X_file`: where the value of `X` is."""

    key: str
    path: object
    folder: Path
    """What a relative path is relative to."""


@dataclass(frozen=True, slots=True)
class SourcedValue:
    """A value and where it came from."""

    value: object
    source: str
    """A file's path, `environment NAME`, `credential NAME`, `command line` or `default`."""


Layer = dict[schema.KeyPath, SourcedValue]


@dataclass(slots=True)
class ConfigPlace:
    """What one place sets, by key, and what is to be said about it."""

    folder: Path
    """What a relative path is relative to."""
    environ: Mapping[str, str]
    layer: Layer = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def put(self, path: schema.KeyPath, value: object, source: str) -> None:
        """Sets one key; `X_file` sets `X`, which this place must not set in both ways."""
        secret = schema.secret_of(path)
        if secret:
            key = schema.dotted(path)
            path, value = secret, "" if value == "" else SecretFile(key, value, self.folder)
        # A program without a slash is one to look for on PATH.
        elif path in _PATHS and isinstance(value, str | Path) and ("/" in str(value) or path == STATE_DIR):
            value = value and absolute(Path(value), self.folder, self.environ)
        before = self.layer[path].value if path in self.layer else ""
        if before and value and isinstance(before, SecretFile) != isinstance(value, SecretFile):
            reason = f"is given beside {schema.dotted(path)}{schema.FILE_SUFFIX}; give only one of the two"
            self.problems.append(Problem(source, schema.dotted(path), reason))
        if value != "" or not before:
            self.layer[path] = SourcedValue(value, source)

    def put_table(self, data: Mapping[str, Any], source: str, above: schema.KeyPath = ()) -> None:
        """Sets the keys of nested tables. An empty table is a value too: it may name a queue."""
        for key, value in data.items():
            path = (*above, key)
            if isinstance(value, Mapping) and value and _is_table(schema.node_at(path)):
                self.put_table(value, source, path)
            else:
                self.put(path, value, source)

    def put_text(self, path: schema.KeyPath, text: str, source: str) -> None:
        """Sets what the text of a variable, an option or a credential means at a key."""
        node = schema.node_at(path)
        value = _from_text(node, text) if isinstance(node, FieldInfo) else _structure(text)
        if isinstance(value, Mapping) and _is_table(node):
            self.put_table(value, source, path)
        else:
            self.put(path, value, source)


def tree(layer: Layer) -> dict[str, Any]:
    """The layer as nested tables. Where a plain value stands in a table's place, what is below it is left out."""
    root: dict[Any, Any] = {}
    for path in sorted(layer, key=len):
        table: Any = root
        for key in path[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            value = layer[path].value
            # A copy, because an empty table may get keys from another place.
            table[path[-1]] = dict(value) if isinstance(value, dict) else value
    return root


def read_secret_files(merged: Layer, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Puts the text of secret files in their places."""
    guarded = environ.get(CREDENTIALS_VARIABLE)
    for path, entry in list(merged.items()):
        if not isinstance(entry.value, SecretFile):
            continue
        merged.pop(path)
        named = entry.value.path
        if not isinstance(named, str | Path) or not is_clean(str(named)):
            yield Problem(entry.source, entry.value.key, "must be a path in quotes")
            continue
        file = absolute(Path(named), entry.value.folder, environ)
        try:
            text = read_secret_file(file, Path(guarded) if guarded else None)
        except ValueError as error:
            yield Problem(entry.source, entry.value.key, str(error))
        else:
            merged[path] = SourcedValue(text, f"{entry.source}, from {file}")


def from_variables(environ: Mapping[str, str], cwd: Path) -> ConfigPlace:
    """The values of `CRMD_TABLE__KEY` variables; an unknown one is warned about."""
    place = ConfigPlace(cwd, environ)
    for variable in sorted(environ):
        text, source = environ[variable], _source(variable)
        if not variable.startswith(PREFIX) or not text or variable == CONFIG_VARIABLE:
            continue
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if schema.node_at(path) is None or path[0] in RESERVED_TABLES:
            if not _KUBERNETES.fullmatch(variable):
                place.warnings.append(f"{source}: {_unknown(variable, path)}")
        # Python keeps an undecodable byte of the environment as a lone surrogate.
        elif re.search("[\ud800-\udfff]", text):
            place.problems.append(Problem(source, schema.dotted(path), "is not UTF-8 text"))
        else:
            place.put_text(path, text, source)
    return place


def from_platform(environ: Mapping[str, str], cwd: Path) -> ConfigPlace:
    """What hosting platforms set: `REDIS_URL` and `DATABASE_URL`."""
    place = ConfigPlace(cwd, environ)
    for table in ("redis", "database"):
        variable = f"{table.upper()}_URL"
        if url := environ.get(variable):
            place.put((table, "url"), url, _source(variable))
    return place


def from_credentials(environ: Mapping[str, str]) -> ConfigPlace:
    """The files of `$CREDENTIALS_DIRECTORY` named by a dotted key with underscores, such as `auth_password`."""
    directory = Path(environ.get(CREDENTIALS_VARIABLE) or "/nonexistent")
    place = ConfigPlace(directory, environ)
    known = {"_".join(path): path for path, _ in schema.leaves() if schema.NAME not in path}
    for name in _names_in(directory):
        source = f"credential {name}"
        if name not in known:
            # A name like nothing of ours may be read by password_file and the like.
            if close := get_close_matches(name, known, 1, _NEAR):
                place.warnings.append(f'{source}: unknown; did you mean "{close[0]}"?')
            continue
        try:
            place.put_text(known[name], read_secret_file(directory / name, directory), source)
        except ValueError as error:
            place.problems.append(Problem(source, schema.dotted(known[name]), str(error)))
    return place


def from_command_line(overrides: Mapping[str, Any], cwd: Path, environ: Mapping[str, str]) -> ConfigPlace:
    """Values by dotted key; None is what was not given."""
    place = ConfigPlace(cwd, environ)
    for key, value in overrides.items():
        path = tuple(key.split("."))
        if isinstance(value, str):
            place.put_text(path, value, COMMAND_LINE)
        elif value is not None:
            place.put(path, value, COMMAND_LINE)
    return place


def from_old_names(environ: Mapping[str, str], cwd: Path, settled: Layer) -> ConfigPlace:
    """What the variables of the replaced system say about keys that nothing else sets."""
    place = ConfigPlace(cwd, environ)
    for key, variable in (("username", "BULL_BOARD_USERNAME"), ("password", "BULL_BOARD_PASSWORD")):
        if environ.get(variable) and ("auth", key) not in settled:
            place.put(("auth", key), environ[variable], _source(variable))
    if ("redis", "url") not in settled:
        _old_redis(environ, place)
    return place


def _old_redis(environ: Mapping[str, str], place: ConfigPlace) -> None:
    host = environ.get("REDIS_HOST", "").strip()
    port, db = _old_number(environ, "REDIS_PORT"), _old_number(environ, "REDIS_DB")
    password = environ.get("REDIS_PASSWORD", "")
    if not host:
        for name, value in (("REDIS_PORT", port), ("REDIS_DB", db), ("REDIS_PASSWORD", password)):
            if value:
                place.warnings.append(f"{_source(name)}: not used without REDIS_HOST; set REDIS_HOST or REDIS_URL")
        return
    for name, value in (("REDIS_PORT", port), ("REDIS_DB", db)):
        if value and not re.fullmatch(r"\d{1,5}", value, re.ASCII):
            place.problems.append(Problem(_source(name), "redis.url", f"must be a number, not {show(value)}"))
    if re.search("[/@]", host) or host.count(":") == 1:
        reason = "must be a host name alone; write a whole URL into REDIS_URL"
        place.problems.append(Problem(_source("REDIS_HOST"), "redis.url", reason))
    if place.problems:
        return
    credentials = f":{quote(password, safe='')}@" if password else ""
    host = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    url = f"redis://{credentials}{host}:{port or REDIS_DEFAULT_PORT}/{db or 0}"
    place.put(("redis", "url"), url, _source("REDIS_HOST"))


def _old_number(environ: Mapping[str, str], name: str) -> str:
    """The variable's text; empty for `tcp://…`, which Kubernetes sets for a service that is named redis."""
    text = environ.get(name, "").strip()
    return "" if text.startswith("tcp://") else text


def _names_in(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if path.is_file())
    except OSError:
        return []


def _source(variable: str) -> str:
    return f"environment {variable}"


def _unknown(variable: str, path: tuple[str, ...]) -> str:
    if path[0] in RESERVED_TABLES:
        return f"this version has no settings in [{path[0]}] yet; the variable is ignored"
    close = get_close_matches(variable.removeprefix(PREFIX), list(_variables(path)), 1, _NEAR)
    return "unknown variable, ignored" + (f"; did you mean {PREFIX}{close[0]}?" if close else "")


def _variables(path: tuple[str, ...]) -> Iterator[str]:
    """Every variable there is, without its prefix; in tables by name, with the name in this path."""
    for known, leaf in schema.leaves():
        names = {*path[1:2], *(SHIPPED_QUEUES if known[0] == "queues" else ())} if schema.NAME in known else {""}
        for name in sorted(names):
            variable = "__".join(name if key == schema.NAME else key for key in known).upper()
            yield variable
            if schema.is_secret(leaf):
                yield variable + schema.FILE_SUFFIX.upper()


def _is_table(node: schema.Node | None) -> bool:
    return node is not None and not isinstance(node, FieldInfo)


def _from_text(key: FieldInfo, text: str) -> object:
    """What TOML would have had for the text; the text itself where that cannot be."""
    kind = schema.value_type(key)
    if kind is int:
        return int(text) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII) else text
    if kind is bool:
        return _FLAGS.get(text.strip().lower(), text)
    if kind is float:
        number = _structure(text)
        return number if isinstance(number, int | float) else text
    if kind is tuple and not text.lstrip().startswith(("[", "{")):
        return [word.strip() for word in text.split(",") if word.strip()]
    return _structure(text) if kind in (tuple, dict) else text


def _structure(text: str) -> object:
    """The JSON or TOML value that a text is, or the text."""
    try:
        value: object = json.loads(text)
        # JSON's escapes can make what is no text: lone surrogates.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        pass
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text
