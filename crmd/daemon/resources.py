"""The clients that handlers ask for, made from the configuration, and made anew where it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from crmd.clients.http import HttpClient
from crmd.clients.webhooks import WebhookClient
from crmd.clients.whatsapp import WhatsAppClient
from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.errors import ConfigError, Problem
from crmd.records.database import Records


@runtime_checkable
class Opened(Protocol):
    """A client with something to open and to close."""

    async def start(self) -> None:
        """Opens it; fine twice."""

    async def stop(self) -> None:
        """Closes it; fine twice, or before start."""


class Resources:
    """Makes a client for each service. A replaced one stays open until the end: running jobs may hold it."""

    def __init__(self) -> None:
        self._http = HttpClient()
        self._opened: list[Opened] = [self._http]
        self._tables: dict[str, Any] = {}
        self._clients: dict[type, Any] = {}

    def make(self, loaded: Loaded) -> Mapping[type, Any]:
        """The clients by their class; those whose table did not change are the old ones. Raises ConfigError."""
        makers: dict[str, Callable[[Settings], Any]] = {
            "database": self._records,
            "whatsapp": self._whatsapp,
            "webhook": self._webhook,
        }
        made, tables = dict(self._clients), dict(self._tables)
        for table, maker in makers.items():
            settings = getattr(loaded.settings, table)
            if tables.get(table) == settings:
                continue
            try:
                client = maker(loaded.settings)
            except ValueError as error:
                raise ConfigError([Problem(str(loaded.path or "configuration"), table, str(error))]) from None
            made[type(client)] = client
            tables[table] = settings
        self._clients, self._tables = made, tables
        return made

    async def start(self) -> None:
        """Opens what is not open yet."""
        for client in self._clients.values():
            if isinstance(client, Opened) and client not in self._opened:
                self._opened.append(client)
        for opened in self._opened:
            await opened.start()

    async def stop(self) -> None:
        """Closes all. Fine twice, or before start."""
        for opened in reversed(self._opened):
            await opened.stop()

    def _records(self, settings: Settings) -> Records:
        table = settings.database
        return Records(
            table.url.get_secret_value(), folder=settings.daemon.state_dir, connections=table.connections
        )

    def _whatsapp(self, settings: Settings) -> WhatsAppClient:
        table = settings.whatsapp
        return WhatsAppClient(
            self._http,
            base_url=table.base_url,
            api_version=table.api_version,
            phone_number_id=table.phone_number_id,
            token=table.token,
        )

    def _webhook(self, settings: Settings) -> WebhookClient:
        table = settings.webhook
        return WebhookClient(
            secret=table.secret,
            allow_private=table.allow_private,
            timeout_seconds=table.timeout,
            snippet_bytes=table.snippet_bytes,
        )
