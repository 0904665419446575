"""Files by URL: the URLs come from jobs, so they lead to public addresses only, and to those that were allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from aiohttp.abc import AbstractResolver
from yarl import URL

from crmd.crm.outbound.addresses import AddressPolicy, Network
from crmd.crm.outbound.http import Download, HttpClient

DOWNLOAD_SECONDS = 30.0


class Downloads:
    """Gets files by URL. A redirect is followed where its address may be reached too."""

    def __init__(
        self, *, allow_private: Iterable[Network | str] = (), resolver: AbstractResolver | None = None
    ) -> None:
        self._http = HttpClient(policy=AddressPolicy(allow_private), resolver=resolver)

    async def start(self) -> None:
        """Makes ready; starting twice is fine."""
        await self._http.start()

    async def stop(self) -> None:
        """Closes all connections; stopping twice, or before starting, is fine."""
        await self._http.stop()

    async def get(
        self, url: URL, into: IO[bytes], *, max_bytes: int, timeout_seconds: float = DOWNLOAD_SECONDS
    ) -> Download:
        """Gets a URL into a file and says what became of it."""
        return await self._http.download(url, into, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
