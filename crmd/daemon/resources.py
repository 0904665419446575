"""The clients that handlers ask for, built from the configuration and rebuilt when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from crmd.component import Component
from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.config.tables import FilesTable
from crmd.crm.ai.client import AiClient
from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.consent.keywords import ConsentKeywords
from crmd.crm.database.database import Database
from crmd.crm.email.attachment_folder import FOLDER, AttachmentFolder
from crmd.crm.email.smtp import SmtpClient
from crmd.crm.files.store import FOLDER as FILES
from crmd.crm.files.store import FileLimits, FileStore
from crmd.crm.imports.source import FOLDER as IMPORTS
from crmd.crm.imports.source import ImportFolder
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.notifications.client import Channel, NotifyClient
from crmd.crm.outbound.downloads import Downloads
from crmd.crm.outbound.http import HttpClient
from crmd.crm.schema import SCHEMA
from crmd.crm.tabular.xlsx_source import XlsxReaders
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.crm.whatsapp.send_rate import SendLine, SendRate
from crmd.engine.store.client import Store
from crmd.errors import ConfigError, Problem


class Resources:
    """Makes a client for each service. A replaced one stays open until the end: running jobs may hold it."""

    def __init__(self, store: Store | None = None, given: Iterable[object] = ()) -> None:
        """`given` are resources that the configuration does not change. Without a store sends share no rate."""
        self._store = store
        self._http = HttpClient()
        self._opened: list[Component] = [self._http]
        self._first_database: Database | None = None
        self._tables: dict[str, Any] = {}
        self._clients: dict[type, Any] = {type(one): one for one in (XlsxReaders(), *given)}

    def make(self, loaded: Loaded) -> Mapping[type, Any]:
        """The clients by their class; those whose table did not change are the old ones. Raises ConfigError."""
        makers: tuple[tuple[str, Callable[[Settings], Any]], ...] = (
            ("database", self._database),
            ("files", self._files),
            ("database", self._message_repository),
            ("whatsapp", self._whatsapp),
            ("whatsapp", self._consent_keywords),
            ("webhook", self._webhook),
            ("webhook", self._downloads),
            ("daemon", self._attachments),
            ("daemon", self._imports),
            ("smtp", self._smtp),
            ("notify", self._notify),
            ("ai", self._ai),
        )
        made, tables = dict(self._clients), dict(self._tables)
        for table, maker in makers:
            settings = getattr(loaded.settings, table)
            if tables.get(maker.__name__) == settings:
                continue
            try:
                client = maker(loaded.settings)
            except ValueError as error:
                raise ConfigError([Problem(str(loaded.path or "configuration"), table, str(error))]) from None
            made[type(client)] = client
            tables[maker.__name__] = settings
        self._clients, self._tables = made, tables
        files = loaded.settings.files
        made[FileStore].configure(_file_limits(files), files.keep)
        return made

    async def start(self) -> None:
        """Opens what is not open yet."""
        for client in self._clients.values():
            if isinstance(client, Component) and client not in self._opened:
                self._opened.append(client)
        for opened in self._opened:
            await opened.start()

    async def stop(self) -> None:
        """Closes all. Idempotent."""
        for opened in reversed(self._opened):
            await opened.stop()

    def _database(self, settings: Settings) -> Database:
        """Those of the start for ever; a changed address is read all the same, to say what is wrong with it."""
        table = settings.database
        url, folder = table.url.get_secret_value(), settings.daemon.state_dir
        made = Database(url, SCHEMA, folder=folder, connections=table.connections)
        self._first_database = self._first_database or made
        return self._first_database

    def _files(self, settings: Settings) -> FileStore:
        if FileStore in self._clients:
            return cast(FileStore, self._clients[FileStore])
        table = settings.files
        folder = settings.daemon.state_dir / FILES if table.folder == Path() else table.folder
        return FileStore(cast(Database, self._first_database), folder, _file_limits(table), table.keep)

    def _notify(self, settings: Settings) -> NotifyClient:
        table = settings.notify
        channels = {name: Channel(channel.url, channel.level) for name, channel in table.channels.items()}
        return NotifyClient(channels, timeout_seconds=table.timeout, group_window_seconds=table.group_window)

    def _whatsapp(self, settings: Settings) -> WhatsAppClient:
        table = settings.whatsapp
        per_second = table.rate.per_second
        rate = SendRate(self._store, table.phone_number_id, per_second) if self._store else None
        return WhatsAppClient(
            self._http,
            base_url=table.base_url,
            api_version=table.api_version,
            phone_number_id=table.phone_number_id,
            token=table.token,
            line=SendLine(rate, per_second),
        )

    def _message_repository(self, settings: Settings) -> MessageRepository:
        """One for ever, as its database is: what comes together shares a transaction."""
        if MessageRepository in self._clients:
            return cast(MessageRepository, self._clients[MessageRepository])
        return MessageRepository(cast(Database, self._first_database), CampaignGate())

    def _consent_keywords(self, settings: Settings) -> ConsentKeywords:
        table = settings.whatsapp
        return ConsentKeywords(table.opt_out_words, table.opt_in_words, table.opt_out_languages)

    def _webhook(self, settings: Settings) -> WebhookClient:
        table = settings.webhook
        return WebhookClient(
            secret=table.secret,
            endpoints=table.endpoints,
            disable_after_seconds=table.disable_after,
            allow_private=table.allow_private,
            timeout_seconds=table.timeout,
            snippet_bytes=table.snippet_bytes,
        )

    def _downloads(self, settings: Settings) -> Downloads:
        return Downloads(allow_private=settings.webhook.allow_private)

    def _attachments(self, settings: Settings) -> AttachmentFolder:
        return AttachmentFolder(settings.daemon.state_dir / FOLDER)

    def _imports(self, settings: Settings) -> ImportFolder:
        return ImportFolder(settings.daemon.state_dir / IMPORTS)

    def _smtp(self, settings: Settings) -> SmtpClient:
        table = settings.smtp
        return SmtpClient(
            host=table.host,
            port=table.port,
            security=table.security,
            username=table.username,
            password=table.password,
            sender=table.sender,
            connections=table.connections,
            timeout_seconds=table.timeout,
        )

    def _ai(self, settings: Settings) -> AiClient:
        table = settings.ai
        return AiClient(
            self._http,
            base_url=table.base_url,
            key=table.key,
            model=table.model,
            transcription_model=table.transcription_model,
            timeout_seconds=table.timeout,
        )


def _file_limits(table: FilesTable) -> FileLimits:
    return FileLimits(table.max_bytes, table.quota_files, table.quota_bytes, table.keep_free)
