"""A socket that was handed over, as systemd does."""

from __future__ import annotations

import socket
from pathlib import Path

import aiohttp
import pytest

from crmd.config.tables import AuthTable, HttpTable
from tests.support.http import PASSWORD, Site
from tests.support.started import started


@pytest.mark.parametrize(("host", "open_to_all"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_where_the_socket_listens_counts_and_not_the_configuration(
    web: Site, host: str, open_to_all: bool
) -> None:
    taken = socket.create_server((host, 0))
    async with started(
        web.parts.server(web.harness.control, HttpTable(), AuthTable(), PASSWORD, listen_socket=taken)
    ) as server:
        assert server.address == taken.getsockname()
        async with web.session.get(f"http://127.0.0.1:{server.address[1]}/metrics") as response:
            assert (response.status == 200) is open_to_all


async def test_a_unix_socket_serves(web: Site, state_folder: Path) -> None:
    path = state_folder.parent / "http"
    taken = socket.socket(socket.AF_UNIX)
    taken.bind(str(path))
    taken.listen()
    async with started(
        web.parts.server(web.harness.control, HttpTable(), AuthTable(), PASSWORD, listen_socket=taken)
    ) as server:
        assert server.address == (str(path), 0)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            async with session.get("http://localhost/health") as response:
                assert response.status == 200
            async with session.get("http://localhost/metrics") as response:
                assert response.status == 401
            async with session.get("http://localhost/api/v1/queues", headers=web.headers) as response:
                assert response.status == 200
