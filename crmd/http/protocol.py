"""aiohttp's part of a connection: what we tell it, and what it leaves undone.

The only file that uses what aiohttp keeps private: the requests that it has parsed, and a timer.

A body whose chunks are malformed gets no end there: whoever reads it waits, and with each chunk that is read
aiohttp parses again, and keeps the error again. Errors and timers that refer to their connection stay until the
garbage collector finds them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import aiohttp
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

_log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 30.0
MAX_LINE_BYTES = 16 * 1024
"""Of a request's first line: a file's name of 1,000 characters of any script, percent-encoded."""
READ_BYTES = 64 * 1024
"""Buffered of a body before its sender has to wait, of a thousand senders."""


def request_handlers(server: web.Server) -> Callable[[], web.RequestHandler]:
    """What makes aiohttp's part of each connection; by public methods alone where aiohttp has changed inside."""
    loop, logger = asyncio.get_running_loop(), _protocol_logger()
    if _keeps_what_it_parsed(_RequestHandler(server, loop, logger)):
        return partial(_StrictRequestHandler, server, loop, logger)
    _log.warning(
        "aiohttp %s keeps what it has parsed where crmd does not find it: a malformed body is refused only when "
        "its time is up; install a version of aiohttp that crmd names in its dependencies",
        aiohttp.__version__,
    )
    return partial(_RequestHandler, server, loop, logger)


class _RequestHandler(web.RequestHandler):
    """With crmd's limits."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, logger: logging.Logger) -> None:
        super().__init__(
            server,
            loop=loop,
            logger=logger,
            access_log=None,  # type: ignore[arg-type]  # it asks whether there is one
            keepalive_timeout=KEEPALIVE_SECONDS,
            # The guard refuses compressed bodies; aiohttp would unpack them before it, and what is left after it.
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=MAX_LINE_BYTES,
        )


class _StrictRequestHandler(_RequestHandler):
    """Parses a connection's requests up to the first mistake, and is freed with the connection."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, logger: logging.Logger) -> None:
        super().__init__(server, loop, logger)
        self._body: StreamReader | None = None
        """Of the last request that was parsed."""
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Parses what has come; aiohttp calls it for the rest of what came before, too."""
        if self._refused:
            return
        super().data_received(data)
        mistake = None
        for message, body in reversed(self._messages):
            if isinstance(message, RawRequestMessage):
                self._body = body
                break
            mistake = message.exc
        if mistake is not None:
            self._refuse(mistake)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is closed."""
        super().connection_lost(exc)
        self._body = self._keepalive_handle = None

    def _refuse(self, mistake: BaseException) -> None:
        """Nothing more is parsed, and whoever reads the body is told."""
        self._refused = True
        mistake.__traceback__ = None
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(mistake)
            self._body.feed_eof()


def _keeps_what_it_parsed(handler: web.RequestHandler) -> bool:
    """Whether a request and a mistake stand where `_StrictRequestHandler` looks; needs no connection."""
    try:
        handler.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        handler.data_received(b"\0\r\n\r\n")
        (request, body), (mistake, _) = handler._messages
        return (
            isinstance(request, RawRequestMessage)
            and isinstance(body, StreamReader)
            and not isinstance(mistake, RawRequestMessage)
            and isinstance(mistake.exc, HttpProcessingError)
            and hasattr(handler, "_keepalive_handle")
        )
    except (AttributeError, TypeError, ValueError):
        return False


def _protocol_logger() -> logging.Logger:
    """For what aiohttp logs of connections: no traceback for what is not HTTP, nor for a client that went away."""
    expected = (HttpProcessingError, ConnectionError)
    logger = logging.Logger(__name__)
    logger.parent = _log
    logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], expected)))
    return logger
