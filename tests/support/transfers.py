"""Imports and exports on a real database and a real folder of files."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.repository import ContactView
from crmd.crm.database.database import Database
from crmd.crm.exports.jobs import export_contacts, export_messages
from crmd.crm.exports.payloads import ExportContacts, ExportMessages
from crmd.crm.files.store import FileStore
from crmd.crm.imports.jobs import import_contacts
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.source import ImportFolder
from crmd.crm.tabular.xlsx_source import XlsxReaders
from crmd.engine.settings import QueueSettings
from crmd.jobs import JobContext
from tests.support.context import RecordedRun, make_context
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.started import started

QUEUES = (
    QueueSettings("import", timeout_seconds=600, attempts=1),
    QueueSettings("export", timeout_seconds=300, attempts=2),
)
KEEP_SECONDS = 86_400.0
MAX_BYTES = 1024**3


@dataclass
class Office:
    """Where files are imported and exported."""

    database: Database
    files: FileStore
    folder: Path
    xlsx: XlsxReaders = field(default_factory=XlsxReaders)

    @property
    def resources(self) -> Mapping[type, Any]:
        """What handlers ask for."""
        return {type(one): one for one in self._resources()}

    def write(self, data: str | bytes, name: str = "contacts.csv") -> str:
        """Puts a file into the imports folder; returns its name."""
        (self.folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return name

    def context(self, name: str, key: str = "job-1", **more: Any) -> JobContext:
        """A job's context."""
        queue = name.partition("_")[0]
        return make_context(
            *self._resources(), queue=queue, name=name, key=key, **{"timeout_seconds": 600.0, **more}
        )

    async def run_import(
        self, path: str, *, key: str = "job-1", run: RecordedRun | None = None, **payload: Any
    ) -> dict[str, Any]:
        """Imports a file of the imports folder."""
        model = ImportContacts.model_validate({"path": path, **payload})
        return dict(await import_contacts(self.context("import_contacts", key, run=run), model))

    async def run_export(self, job: str, /, *, key: str = "job-1", **payload: Any) -> dict[str, Any]:
        """Exports, by the job's name."""
        if job == "export_contacts":
            model = ExportContacts.model_validate(payload)
            return dict(await export_contacts(self.context(job, key), model))
        return dict(await export_messages(self.context(job, key), ExportMessages.model_validate(payload)))

    async def path(self, file_id: str) -> Path:
        """Where a stored file is."""
        return (await self.files.get(file_id)).path

    async def report(self, result: Mapping[str, Any]) -> list[dict[str, str]]:
        """The rows of an import's report."""
        path = await self.path(result["report"])
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    async def contacts(self) -> list[ContactView]:
        """All contacts, a few thousand at most."""
        async with self.database.reading() as s:
            return await contacts.page(s, ContactFilter(), None, 10_000)

    async def by_phone(self) -> dict[str, ContactView]:
        """All contacts by their number."""
        return {one.phone: one for one in await self.contacts()}

    def _resources(self) -> tuple[object, ...]:
        return (self.database, self.files, ImportFolder(self.folder), self.xlsx)


@asynccontextmanager
async def open_office(database: Database, folder: Path) -> AsyncIterator[Office]:
    """An office in a folder."""
    (folder / "imports").mkdir()
    async with started(FileStore(database, folder / "files", MAX_BYTES, KEEP_SECONDS)) as files:
        yield Office(database, files, folder / "imports")


@asynccontextmanager
async def transfer_harness(url: str, *queues: QueueSettings) -> AsyncIterator[EngineHarness]:
    """Both queues, or others, on a real store, with their shipped handlers."""
    async with engine_harness(url, *(queues or QUEUES)) as made:
        made.handle_jobs(import_contacts, export_contacts, export_messages)
        yield made
