"""What goes with a mail: files of the state folder, uploads, files by URL; and nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from crmd.crm.database.database import Database
from crmd.crm.email import jobs as email_attachments
from crmd.crm.email.attachment_folder import AttachmentFolder
from crmd.crm.email.jobs import send_email
from crmd.crm.email.payloads import SendEmail
from crmd.crm.email.smtp import SmtpClient
from crmd.crm.files.store import FileStore
from crmd.crm.outbound.downloads import Downloads
from crmd.errors import JobSignal, Permanent, Retry
from tests.support.context import make_context
from tests.support.file_site import FileSite
from tests.support.raised import raised
from tests.support.services import MailServer, smtp_client
from tests.support.started import started

S = TypeVar("S", bound=JobSignal)
PDF = b"%PDF-1.4 \x00\xff binary \r\n. dot\r\n"


@dataclass
class Bench:
    """A mail server, a site with files, a folder with files, and a client for each."""

    folder: Path
    server: MailServer
    site: FileSite
    smtp: SmtpClient
    downloads: Downloads
    files: FileStore | None = None

    async def send(self, *attachments: dict[str, Any], **context: Any) -> None:
        """Sends a mail with them."""
        payload = SendEmail.model_validate(
            {"to": "ann@example.org", "subject": "Files", "text": "See below.", "attachments": list(attachments)}
        )
        resources = (self.smtp, self.downloads, AttachmentFolder(self.folder), self.files)
        await send_email(make_context(*resources, queue="email", name="send_email", **context), payload)

    async def refused(self, kind: type[S], sending: Awaitable[None], *said: str) -> S:
        """What the send raises; nothing is sent then."""
        signal = await raised(kind, sending, *said)
        assert self.server.arrived == []
        return signal

    def arrived(self) -> list[tuple[str | None, str, object]]:
        """Name, type and content of what came with the only mail."""
        [mail] = self.server.arrived
        return [
            (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
            for part in mail.message.iter_attachments()
        ]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    folder = tmp_path / "attachments"
    folder.mkdir()
    async with (
        started(MailServer()) as server,
        started(FileSite()) as site,
        started(smtp_client(server)) as smtp,
        started(Downloads(allow_private=["127.0.0.1/32"])) as downloads,
    ):
        yield Bench(folder, server, site, smtp, downloads)


async def test_files_of_the_folder(bench: Bench) -> None:
    (bench.folder / "2024").mkdir()
    (bench.folder / "2024" / "invoice.pdf").write_bytes(PDF)
    (bench.folder / "notes").write_bytes(b"")
    await bench.send(
        {"path": "2024/invoice.pdf"},
        {"path": "./2024/invoice.pdf", "name": "Rechnung März.pdf", "media_type": "application/x-invoice"},
        {"path": "notes"},
    )
    assert bench.arrived() == [
        ("invoice.pdf", "application/pdf", PDF),
        ("Rechnung März.pdf", "application/x-invoice", PDF),
        ("notes", "application/octet-stream", b""),
    ]


async def test_no_way_leads_out_of_the_folder(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (bench.folder / "link.txt").symlink_to(outside)
    (bench.folder / "folder").symlink_to(tmp_path)
    (bench.folder / "inner").mkdir()
    os.mkfifo(bench.folder / "pipe")
    for path in ("link.txt", "folder/secret.txt", "inner", "pipe", "absent.txt", "link.txt/x", "x" * 300):
        signal = await bench.refused(JobSignal, bench.send({"path": path}))
        assert isinstance(signal, Permanent), path
        assert "secret" not in str(signal).replace(path, "")


async def test_no_folder_at_all(bench: Bench) -> None:
    bench.folder.rmdir()
    await bench.refused(Permanent, bench.send({"path": "a.pdf"}), "there is no a.pdf")


@pytest.mark.parametrize("query", ["", "?length"])
async def test_files_by_url(bench: Bench, query: str) -> None:
    bench.site.files["/files/report.csv"] = (b"a,b\r\n", "text/csv; charset=utf-8")
    bench.site.files["/"] = (PDF, "application/octet-stream")
    bench.site.redirects["/old"] = "/files/report.csv"
    await bench.send(
        {"url": f"{bench.site.url}/files/report.csv{query}"},
        {"url": f"{bench.site.url}/{query}"},
        {"url": f"{bench.site.url}/old"},
    )
    assert bench.arrived() == [
        ("report.csv", "text/csv", b"a,b\r\n"),
        ("file", "application/octet-stream", PDF),
        ("report.csv", "text/csv", b"a,b\r\n"),
    ]


async def test_a_url_that_does_not_lead_to_a_file(bench: Bench) -> None:
    site = bench.site
    site.statuses |= {"/gone": 410, "/broken": 503, "/busy": 429}
    site.redirects |= {"/inside": "http://10.0.0.1/", "/meta": "http://169.254.169.254/", "/round": "/round"}
    expected = {
        "/absent": (Permanent, "404"),
        "/gone": (Permanent, "410"),
        "/broken": (Retry, "503"),
        "/busy": (Retry, "429"),
        "/inside": (Permanent, "private"),
        "/meta": (Permanent, "link-local"),
        "/round": (Retry, "did not come"),
    }
    for path, (kind, said) in expected.items():
        assert type(await bench.refused(JobSignal, bench.send({"url": site.url + path}), said)) is kind, path


async def test_a_private_address_is_refused(bench: Bench) -> None:
    async with started(Downloads()) as bench.downloads:
        await bench.refused(Permanent, bench.send({"url": f"{bench.site.url}/a"}), "loopback")
    assert bench.site.requests == []


async def test_a_file_that_does_not_come_in_time(bench: Bench) -> None:
    bench.site.hanging.add("/slow")
    await bench.refused(Retry, bench.send({"url": f"{bench.site.url}/slow"}, timeout_seconds=0.3), "did not come")


@pytest.mark.parametrize("query", ["", "?length"])
async def test_too_much_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setattr(email_attachments, "MAX_TOTAL_BYTES", 100_000)
    (bench.folder / "half.bin").write_bytes(b"x" * 60_000)
    bench.site.files["/half"] = (b"y" * 60_000, "application/octet-stream")
    by_path, by_url = {"path": "half.bin"}, {"url": f"{bench.site.url}/half{query}"}
    await bench.send(by_path)
    bench.server.arrived.clear()
    for pair in ((by_path, by_path), (by_path, by_url), (by_url, by_path)):
        await bench.refused(Permanent, bench.send(*pair), "40,000")


async def test_uploaded_files(bench: Bench, sqlite_database: Database, tmp_path: Path) -> None:
    store = FileStore(sqlite_database, tmp_path / "files", limits=1_000_000, keep_seconds=3600)
    async with started(store) as files:
        async with files.create(kind="upload", name="Rechnung März.pdf", media_type="application/pdf") as new:
            new.path.write_bytes(PDF)
        bench.files = files
        await bench.send({"file": new.id}, {"file": new.id, "name": "b.bin", "media_type": "application/x-b"})
        assert bench.arrived() == [
            ("Rechnung März.pdf", "application/pdf", PDF),
            ("b.bin", "application/x-b", PDF),
        ]
        bench.server.arrived.clear()
        await bench.refused(Permanent, bench.send({"file": "0" * 32}), "expired")
