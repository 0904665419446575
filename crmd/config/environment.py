"""What the environment sets: `CRMD_*`, platforms' URLs, systemd credentials, names of the replaced system."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote

from crmd.config import schema
from crmd.config.layers import Entry, Layer, flatten
from crmd.config.model import RESERVED_TABLES
from crmd.config.rules import structure_from_text
from crmd.config.secret import Secret, read_secret_file
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.errors import Problem
from crmd.formatting import show

PREFIX = "CRMD_"
CONFIG_VARIABLE = "CRMD_CONFIG"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
REDIS_DEFAULT_PORT = 6379

_NEAR = 0.75

# Kubernetes sets these for a service that is named crmd.
_KUBERNETES = re.compile(r"CRMD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")


@dataclass(slots=True)
class Found:
    """One place's values, and what is to be said about it."""

    layer: Layer = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def source_name(variable: str) -> str:
    """How the source of a variable's value is called."""
    return f"environment {variable}"


def text_entries(path: schema.Path, text: str, source: str, folder: Path) -> Layer:
    """The entries that the text of a variable or an option makes at a path of the schema."""
    node = schema.node_at(path)
    if isinstance(node, schema.Leaf):
        return {path: Entry(node.rule.from_text(text), source, folder)}
    value = structure_from_text(text)
    if isinstance(value, dict):
        return flatten(value, source, folder, path)
    return {path: Entry(value, source, folder)}


def from_variables(environ: Mapping[str, str], folder: Path) -> Found:
    """The values of `CRMD_TABLE__KEY` variables; an unknown one is warned about."""
    found = Found()
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(PREFIX) or not text or variable == CONFIG_VARIABLE:
            continue
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if schema.node_at(path) is None or path[0] in RESERVED_TABLES:
            if not _KUBERNETES.fullmatch(variable):
                found.warnings.append(f"{source_name(variable)}: {_unknown(variable, path)}")
            continue
        if _is_utf8(text):
            found.layer |= text_entries(path, text, source_name(variable), folder)
        else:
            found.problems.append(Problem(source_name(variable), schema.dotted(path), "is not UTF-8 text"))
    return found


def from_platform(environ: Mapping[str, str], folder: Path) -> Found:
    """What hosting platforms set: `REDIS_URL` and `DATABASE_URL`."""
    found = Found()
    for table in ("redis", "database"):
        variable = f"{table.upper()}_URL"
        if url := environ.get(variable):
            found.layer[table, "url"] = Entry(url, source_name(variable), folder)
    return found


def from_credentials(environ: Mapping[str, str]) -> Found:
    """The files of `$CREDENTIALS_DIRECTORY` named by a dotted key with underscores, such as `auth_password`."""
    found = Found()
    directory = Path(environ.get(CREDENTIALS_VARIABLE) or "/nonexistent")
    known = {"_".join(path): (path, leaf) for path, leaf in schema.leaves() if schema.NAME not in path}
    for name in _names_in(directory):
        source = f"credential {name}"
        if name not in known:
            # A name like nothing of ours may be read by password_file and the like.
            if close := get_close_matches(name, known, 1, _NEAR):
                found.warnings.append(f'{source}: unknown; did you mean "{close[0]}"?')
            continue
        path, leaf = known[name]
        try:
            text = read_secret_file(directory / name, directory)
        except ValueError as error:
            found.problems.append(Problem(source, schema.dotted(path), str(error)))
            continue
        value = text if isinstance(leaf.rule, Secret) else leaf.rule.from_text(text)
        found.layer[path] = Entry(value, source, directory)
    return found


def from_old_names(environ: Mapping[str, str], folder: Path, settled: Layer) -> Found:
    """What the variables of the replaced system say about keys that nothing else sets."""
    found = Found()
    for key, variable in (("username", "BULL_BOARD_USERNAME"), ("password", "BULL_BOARD_PASSWORD")):
        taken = any(("auth", name) in settled for name in (key, f"{key}_file"))
        if environ.get(variable) and not taken:
            found.layer["auth", key] = Entry(environ[variable], source_name(variable), folder)
    if ("redis", "url") not in settled and ("redis", "url_file") not in settled:
        _old_redis(environ, folder, found)
    return found


def _old_redis(environ: Mapping[str, str], folder: Path, found: Found) -> None:
    host = environ.get("REDIS_HOST", "").strip()
    port, db = _old_number(environ, "REDIS_PORT"), _old_number(environ, "REDIS_DB")
    if not host:
        lone = [name for name, value in (("REDIS_PORT", port), ("REDIS_DB", db)) if value]
        lone += ["REDIS_PASSWORD"] if environ.get("REDIS_PASSWORD") else []
        for name in lone:
            found.warnings.append(f"{source_name(name)}: not used without REDIS_HOST; set REDIS_HOST or REDIS_URL")
        return
    for name, value in (("REDIS_PORT", port), ("REDIS_DB", db)):
        if value and not re.fullmatch(r"\d{1,5}", value, re.ASCII):
            found.problems.append(Problem(source_name(name), "redis.url", f"must be a number, not {show(value)}"))
    if re.search("[/@]", host) or host.count(":") == 1:
        reason = "must be a host name alone; write a whole URL into REDIS_URL"
        found.problems.append(Problem(source_name("REDIS_HOST"), "redis.url", reason))
    if found.problems:
        return
    password = environ.get("REDIS_PASSWORD", "")
    credentials = f":{quote(password, safe='')}@" if password else ""
    place = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    url = f"redis://{credentials}{place}:{port or REDIS_DEFAULT_PORT}/{db or 0}"
    found.layer["redis", "url"] = Entry(url, source_name("REDIS_HOST"), folder)


def _old_number(environ: Mapping[str, str], name: str) -> str:
    """The variable's text; empty for `tcp://…`, which Kubernetes sets for a service that is named redis."""
    text = environ.get(name, "").strip()
    return "" if text.startswith("tcp://") else text


def _names_in(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if path.is_file())
    except OSError:
        return []


def _is_utf8(text: str) -> bool:
    # Python keeps an undecodable byte of the environment as a lone surrogate.
    return not re.search("[\ud800-\udfff]", text)


def _unknown(variable: str, path: schema.Path) -> str:
    if path[0] in RESERVED_TABLES:
        return f"this version has no settings in [{path[0]}] yet; the variable is ignored"
    bodies = [name.removeprefix(PREFIX) for name in _variables(path)]
    close = get_close_matches(variable.removeprefix(PREFIX), bodies, 1, _NEAR)
    hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
    return f"unknown variable, ignored{hint}"


def _variables(path: schema.Path) -> Iterator[str]:
    """Every variable there is; for named tables those of the name in this path and of the shipped queues."""
    given = path[1:2]
    for known, leaf in schema.leaves():
        names = {*given, *(SHIPPED_QUEUES if known[0] == "queues" else ())} if schema.NAME in known else {""}
        for name in sorted(names):
            keys = [name if key == schema.NAME else key for key in known]
            yield PREFIX + "__".join(keys).upper()
            if isinstance(leaf.rule, Secret):
                yield PREFIX + "__".join(keys).upper() + "_FILE"
