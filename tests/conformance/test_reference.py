"""The reference pages of keys, metrics, exit codes and HTTP have what the code has, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crmd import errors
from crmd.cache import cache
from crmd.cli.kit import base
from crmd.console.queue_bodies import FilterBody, JobBody, JobsQuery
from crmd.crm.database import address
from crmd.crm.email import attachment_folder as attachments
from crmd.crm.files import store as records_files
from crmd.crm.imports import source
from crmd.daemon import credentials
from crmd.embedded import server_config
from crmd.embedded import state_folder as statedir
from crmd.embedded.server_config import StoreFiles
from crmd.engine.store import keys
from crmd.engine.store.keys import QueueKeys
from crmd.engine.worker import pending_acks
from crmd.errors import CrmdError, ExitCode, JobSignal
from crmd.http.routes import Route
from crmd.telemetry.metrics import STATES, Metrics
from tests.support.http import Site
from tests.support.pages import PROJECT, Page, table

REFERENCE = PROJECT / "docs" / "reference"
KEYS = Page(REFERENCE / "keys.md")
METRICS = Page(REFERENCE / "metrics.md")
EXIT_CODES = Page(REFERENCE / "exit-codes.md")
HTTP = Page(REFERENCE / "http.md")


# Keys


def test_the_page_has_each_key_with_its_type() -> None:
    assert {row[0].strip("`"): row[1] for row in table(KEYS.text) if len(row) == 4} == dict(_keys())


def test_the_page_has_each_channel() -> None:
    shown = {row[0].strip("`") for row in table(KEYS.section("Channels"))}
    assert {keys.WAKE_CHANNEL, "saq:job:QUEUE:KEY"} <= shown


def test_the_page_has_each_file_of_the_state_folder() -> None:
    text = KEYS.section("State folder")
    files = StoreFiles(Path("/state"))
    names = {
        *(statedir.LOCK_NAME, statedir.HOST_ID_NAME, credentials.FILE_NAME, credentials.SOURCE_NAME),
        *(
            server_config.PASSWORD_NAME,
            pending_acks.FILE,
            f"outcomes{statedir.SET_ASIDE}*.json",
            f"{files.log.name}.1",
            "store.cut",
            "store.damaged-*",
        ),
        *(address.FILE_NAME, f"{records_files.FOLDER}/"),
        *(files.socket.name, files.pid.name, files.log.name, f"{files.data.name}/", f"{attachments.FOLDER}/"),
        f"{source.FOLDER}/",
    }
    assert set(re.findall(r"`([^`]+)`", text)) >= names
    assert {row[0].strip("`") for row in table(text)} <= names


def _keys() -> Iterator[tuple[str, str]]:
    """Every key with its type, as the docstrings in keys.py say it."""
    types = _documented_types(Path(inspect.getfile(keys)))
    attributes = vars(QueueKeys("QUEUE"))
    for name, value in attributes.items():
        if name == "name":
            continue
        last = {"limit_prefix": "LIMIT", "parked_prefix": "LIMIT"}.get(name, "KEY")
        yield (f"{value}{last}" if name.endswith("_prefix") else value), types[name]
    yield keys.DAEMONS, types["DAEMONS"]
    yield keys.UNIQUE_FOR, types["UNIQUE_FOR"]
    yield f"{keys.ABORT_PREFIX}KEY", types["ABORT_PREFIX"]
    yield keys.daemon_info("INSTANCE"), types["daemon_info"]
    yield keys.daemon_jobs("INSTANCE"), types["daemon_jobs"]
    yield keys.schedule("NAME"), types["schedule"]
    yield keys.alert("KIND", "QUEUE"), types["alert"]
    yield keys.send_rate("PHONE_NUMBER_ID"), types["send_rate"]
    one = cache.Cache.from_url("unix:///nowhere")
    yield one._name("NAME"), "string"
    yield one._lock_name("NAME"), "string"


def _documented_types(path: Path) -> dict[str, str]:
    """The first type that stands in the docstring of each name."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            found[node.name] = _type_in(text)
        if isinstance(node, ast.Module | ast.FunctionDef):
            found.update(_documented_names(node.body))
    return found


def _documented_names(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Each assigned name, or attribute, with the type in the text below it."""
    for statement, after in pairwise(body):
        match statement, after:
            case (
                ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, _type_in(text)


def _type_in(text: str) -> str:
    found = re.search(r"\b(string|list|hash|zset|set)\b", text)
    return found[1] if found else ""


# Metrics


def test_the_page_has_each_metric_with_type_and_labels() -> None:
    shown = {
        name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, *_ in table(METRICS.text.partition("\n## ")[0])
    }
    assert shown == dict(_metrics())


def _metrics() -> Iterator[tuple[str, tuple[str, set[str]]]]:
    """What a daemon answers that has seen everything."""
    metrics = Metrics("1.0")
    metrics.observe("job.completed", {"queue": "message", "seconds": 1.0})
    metrics.observe("store.lost", {})
    metrics.observe("schedule.ran", {"schedule": "daily"})
    metrics.request_done("GET", "/health", 200, 0.1)
    metrics.auth_refused("wrong")
    gauges = {**dict.fromkeys(STATES, 1.0), "paused": 0.0, "oldest_waiting_seconds": 1.0}
    metrics.set_store(
        connected=True,
        latency_seconds=0.1,
        memory_ratio=0.1,
        queues={"message": {**gauges, "rate_left": 1.0, "last_start_at": 1.0}},
        totals={"message": {"completed": 1}},
    )
    for family in text_string_to_metric_families(metrics.render().decode()):
        if family.name.startswith("crmd_") and not family.name.endswith("_created"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            yield family.name + ("_total" if family.type == "counter" else ""), (family.type, labels)


# Exit codes


def test_the_page_has_each_exit_code() -> None:
    shown = {int(row[0]) for row in table(EXIT_CODES.text.partition("\n## ")[0])}
    assert shown == {*map(int, ExitCode), base.INTERRUPTED, base.PIPE_CLOSED}


def test_the_page_has_the_exit_code_of_each_error() -> None:
    shown = {row[0].strip("`"): int(row[1]) for row in table(EXIT_CODES.section("By error"))}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CrmdError)]
    expected = {
        kind.__name__: int(kind.exit_code)
        for kind in kinds
        if kind is not CrmdError and not issubclass(kind, JobSignal)
    }
    assert shown == expected


# HTTP


@pytest.fixture
async def routes(crm: Site) -> list[Route]:
    """All routes: the description asks for those of the features."""
    await crm.get("/api/v1/openapi.json")
    return crm.server.routes


async def test_the_page_has_each_route_with_its_access(routes: list[Route]) -> None:
    rows = [row for row in table(HTTP.section("Routes")) if len(row) in (3, 4)]
    shown = {(row[0], row[1].strip("`")): row[2] for row in rows}
    assert shown == {(route.method, route.path): route.access.value for route in routes}


def test_the_page_has_the_members_of_bodies() -> None:
    for heading, model in (("Adding jobs", JobBody), ("Many jobs", FilterBody)):
        assert {row[0].strip("`") for row in table(HTTP.section(heading))} == set(model.model_fields)
    assert set(JobsQuery.model_fields) <= set(re.findall(r"`(\w+)`", HTTP.section("Pages of jobs")))


async def test_the_page_has_each_status(routes: list[Route]) -> None:
    shown = {int(row[0]) for row in table(HTTP.section("Errors"))}
    assert shown >= {status for route in routes for status in route.errors}
