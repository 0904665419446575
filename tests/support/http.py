"""The HTTP server on a real store, with three queues, and a client that knows the password."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, ConfigDict, Field

from crmd.config.tables import AuthTable, EndpointTable, HttpTable, WhatsAppTable
from crmd.console.life import Life
from crmd.console.served_queues import ServedQueues
from crmd.crm.database.database import Database
from crmd.crm.files.store import FileStore
from crmd.crm.schema import SCHEMA
from crmd.daemon.http import build_http
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.admin.schedules import Schedules
from crmd.engine.durations import Rate
from crmd.engine.settings import Backoff, KeyedLimit, QueueSettings
from crmd.http.server import HttpServer
from crmd.jobs import Catalog, JobContext, JobSpec
from crmd.telemetry.metrics import Metrics
from tests.support.answers import AnswerCheck
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.started import started

NOWHERE = Path("/nonexistent/crmd")
USER = "admin"
PASSWORD = "correct horse ü"
QUEUES = (
    QueueSettings("message", rate_limit=Rate(20, 60.0), limits=(KeyedLimit("to", Rate(1, 6.0), 45),)),
    QueueSettings("email", attempts=2, backoff=Backoff(0.01, 0.02)),
    QueueSettings("import", attempts=1, stall_after_seconds=0.2),
)


class Greet(BaseModel):
    """Payload of the test job."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    password: str | None = None
    fail: bool = False
    seconds: float = 0.0
    to: str | None = None


async def greet(ctx: JobContext, payload: Greet) -> str:
    """Greets, after a while, or fails."""
    await asyncio.sleep(payload.seconds)
    if payload.fail:
        raise ValueError(f"{payload.name} <b>went</b> wrong")
    return f"hello {payload.name}"


def basic(user: str, password: str, charset: str = "utf-8") -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(charset)).decode()


@dataclass(slots=True)
class Parts:
    """What the routes are given besides the engine; a test may set others."""

    life: Life
    queues: ServedQueues
    health: QueueHealth
    schedules: Schedules
    database: Database
    files: FileStore
    metrics: Metrics
    endpoints: Mapping[str, EndpointTable] = field(default_factory=dict)
    whatsapp: WhatsAppTable = field(default_factory=WhatsAppTable)

    async def clients(self) -> Mapping[type, Any]:
        """What the features' routes get."""
        return {Database: self.database, FileStore: self.files}

    def server(
        self, control: Control, http: HttpTable, auth: AuthTable, password: str, **options: Any
    ) -> HttpServer:
        """A server with all routes, not started."""
        return build_http(
            http,
            auth,
            password,
            life=self.life,
            queues=self.queues,
            health=self.health,
            control=control,
            schedules=self.schedules,
            clients=self.clients,
            endpoints=lambda: self.endpoints,
            whatsapp=lambda: self.whatsapp,
            metrics=self.metrics,
            **options,
        )


def make_parts(control: Control, catalog: Catalog, database: Database, files: FileStore) -> Parts:
    """The parts of a daemon that runs."""
    life, queues = Life("9.9.9", state="running"), ServedQueues(control.inspector.registry, catalog)
    health = QueueHealth(
        control.inspector,
        run_elsewhere=lambda: queues.run_elsewhere,
        degraded=lambda: queues.degraded(),
        uptime_seconds=life.uptime_seconds,
    )
    schedules = Schedules(control, control.inspector.registry)
    return Parts(life, queues, health, schedules, database, files, Metrics("9.9.9"))


@dataclass(slots=True)
class Site:
    """One server under test."""

    server: HttpServer
    harness: EngineHarness
    parts: Parts
    session: aiohttp.ClientSession
    tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is, base path included."""
        return self.server.url

    @property
    def headers(self) -> dict[str, str]:
        """With the password."""
        return {"Authorization": basic(USER, PASSWORD)}

    async def call(
        self, method: str, path: str, *, auth: bool = True, **options: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (decoded where it is JSON) and headers of one request."""
        if auth:
            options["headers"] = {**self.headers, **options.get("headers", {})}
        async with self.session.request(method, self.url + path, **options) as response:
            text = await response.text()
            if method != "HEAD":
                AnswerCheck(self.server.routes).check(method, path, response.status, response.content_type, text)
            body = await response.json(content_type=None) if "json" in response.content_type and text else text
            return response.status, body, response.headers

    async def expect(self, status: int, method: str, path: str, **options: Any) -> Any:
        """The body of an answer that has this status."""
        answered, body, _ = await self.call(method, path, **options)
        assert answered == status, (method, path, body)
        return body

    async def problem(self, status: int, method: str, path: str, **options: Any) -> str:
        """What a problem of this status says."""
        return str((await self.expect(status, method, path, **options))["detail"])

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON of a GET that succeeds."""
        return await self.expect(200, "GET", path, **options)

    async def work(self) -> None:
        """Starts a worker for each queue."""
        await self.harness.start_pool()


@asynccontextmanager
async def site(
    store_url: str,
    *,
    http: Mapping[str, Any] | None = None,
    auth: Mapping[str, Any] | None = None,
    database: Database | None = None,
    files: FileStore | None = None,
    whatsapp: Mapping[str, Any] | None = None,
    queues: Sequence[QueueSettings] = QUEUES,
) -> AsyncIterator[Site]:
    """A running server; `http`, `auth` and `whatsapp` are keys of these tables.

    A database and files that are not given are not opened: their routes answer 503.
    """
    database = database or Database("", SCHEMA, folder=NOWHERE)
    async with engine_harness(store_url, *queues) as engine:
        for queue in queues:
            engine.handle_spec(queue.name, JobSpec("greet", queue.name, greet, Greet))
        parts = make_parts(
            engine.control, engine.catalog, database, files or FileStore(database, NOWHERE, 1_000_000, 3600.0)
        )
        parts.whatsapp = WhatsAppTable.model_validate(whatsapp or {})
        engine.store.events.subscribe(parts.metrics.observe)
        server = parts.server(
            engine.control,
            HttpTable.model_validate({"host": "127.0.0.1", "port": 0, **(http or {})}),
            AuthTable.model_validate({"username": USER, **(auth or {})}),
            PASSWORD,
        )
        try:
            async with started(server), aiohttp.ClientSession() as session:
                yield Site(server, engine, parts, session)
        finally:
            await parts.health.stop()


def token_table(token: str, *scopes: str, queues: tuple[str, ...] = ()) -> dict[str, Any]:
    """A table `[auth.tokens.NAME]`."""
    return {"sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": scopes, "queues": queues}


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    """A running server, no worker."""
    async with site(store_url) as made:
        yield made


@pytest.fixture
async def crm(store_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A running server with a database and files."""
    database = Database("", SCHEMA, folder=tmp_path)
    files = FileStore(database, tmp_path / "files", 1_000_000, 3600.0)
    async with (
        started(database),
        started(files),
        site(store_url, database=database, files=files) as made,
    ):
        yield made


@pytest.fixture
def ok() -> dict[str, Any]:
    """A job that every test queue knows."""
    return {"job": "greet", "payload": {"name": "Ada"}}
