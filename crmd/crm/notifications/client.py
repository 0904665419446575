"""Notifications through Apprise: Slack, Teams, Telegram, mail and a hundred more, each by a secret URL."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import SecretStr

Level = Literal["info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("info", "warning", "error")
"""From the least severe on."""

LOG = "log"
"""The channel that is always there: the daemon's log."""
THREADS = 4
"""Apprise blocks. One that hangs holds its thread until its own sockets time out, so there are several."""
CONNECT_SECONDS = 10.0
SHORTEST_SECRET = 4
"""Parts of a channel's URL that are shorter are not taken out of what is shown: any text has them."""
MAX_REASON = 300

_LOGGER = "apprise"
_KINDS: Mapping[Level, str] = {"info": "info", "warning": "warning", "error": "failure"}
"""Apprise's names of the levels."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Where notifications go."""

    url: SecretStr
    level: Level = "info"
    """The least severe that it gets."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The channel took it."""


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """The channel did not take it, or nobody knows; nothing in the reason is secret."""

    reason: str
    final: bool = False
    """Whether trying again cannot help."""


class NotifyClient:
    """Sends to named channels, off the event loop. Apprise is loaded with the first notification that needs it."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        timeout_seconds: float = 30.0,
        group_window_seconds: float = 60.0,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.group_window_seconds = group_window_seconds
        self._channels = channels
        self._threads: ThreadPoolExecutor | None = None

    @property
    def names(self) -> list[str]:
        """The channels there are."""
        return [LOG, *self._channels]

    def least_level(self, channel: str) -> Level:
        """The least severe level that a channel gets."""
        return "info" if channel == LOG else self._channels[channel].level

    async def start(self) -> None:
        """Makes ready; idempotent."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="notify")

    async def stop(self) -> None:
        """Takes no more; what is under way ends by its own timeouts; idempotent, also before start."""
        threads, self._threads = self._threads, None
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)

    async def send(
        self, channel: str, *, title: str | None, text: str, level: Level, timeout_seconds: float
    ) -> Delivered | NotDelivered:
        """Sends to a channel other than LOG. Where time runs out, the message may have gone out, or still will.

        Raises RuntimeError before `start`.
        """
        if self._threads is None:
            raise RuntimeError("NotifyClient.start() was not called")
        url = self._channels[channel].url.get_secret_value()
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, _send, url, title, text, level, timeout_seconds
        )
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(work)
        except TimeoutError:
            # What becomes of it later concerns nobody, an error neither.
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            return NotDelivered(f"no answer within {timeout_seconds:g} s")


def _send(
    url: str, title: str | None, text: str, level: Level, timeout_seconds: float
) -> Delivered | NotDelivered:
    """Runs in a thread."""
    apprise = _apprise()
    said: list[str] = []
    _SAID.set(said)
    asset = apprise.AppriseAsset(app_id="crmd", app_desc="crmd", async_mode=False)
    target = apprise.Apprise(asset=asset)
    if not target.add(url):
        reason = _without_secrets(said, url)
        return NotDelivered(f"Apprise does not understand its URL{f': {reason}' if reason else ''}", final=True)
    for plugin in target:
        plugin.socket_connect_timeout = min(CONNECT_SECONDS, timeout_seconds)
        plugin.socket_read_timeout = timeout_seconds
    try:
        done = target.notify(
            body=text,
            title=title or "",
            notify_type=apprise.NotifyType(_KINDS[level]),
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # of whichever of the hundred services
        return NotDelivered(_without_secrets([*said, f"{type(error).__name__}: {error}"], url))
    return Delivered() if done else NotDelivered(_without_secrets(said, url) or "Apprise could not send it")


class _Capture(logging.Handler):
    """Keeps what Apprise logs, with the message that it logs it of: it says nowhere else why one failed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one line."""
        said = _SAID.get()
        if said is not None:
            said.append(record.getMessage())


_CAPTURE = _Capture(logging.WARNING)
# Not by thread: Apprise has threads of its own, and gives them the context.
_SAID: ContextVar[list[str] | None] = ContextVar("said", default=None)
_LOADING = threading.Lock()


def _apprise() -> ModuleType:
    """Apprise, loaded when it is needed: it costs 0.4 s and 35 MiB."""
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its hundred modules import
        logger = logging.getLogger(_LOGGER)
        first = _CAPTURE not in logger.handlers
        if first:
            # Its lines hold parts of the channels' URLs: they go through `_without_secrets`, and nowhere else.
            logger.addHandler(_CAPTURE)
            logger.propagate = False
            logger.setLevel(logging.WARNING)
        import apprise

        if first:
            apprise.Apprise.instantiate("json://localhost")  # loads the modules of all services
        return apprise


def _without_secrets(lines: list[Any], url: str) -> str:
    """The lines as one, without any part of the channel's URL."""
    text = " ".join(" ".join(str(line) for line in lines).split())
    _, _, secret = url.partition("://")
    parts = {part for whole in (secret, unquote(secret)) for part in re.split(r"[^A-Za-z0-9_.~-]+", whole)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "***")
    return text[:MAX_REASON]
