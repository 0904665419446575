"""crmd's own alerts: a queue that stalls, jobs that fail, a store that is unavailable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from crmd.component import Periodic
from crmd.config.tables import AlertsTable
from crmd.crm.notifications.alert_rules import AlertRules, Finding, about
from crmd.crm.notifications.jobs import Notify
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import observe
from crmd.engine.admin.views import NewJob
from crmd.engine.store import keys
from crmd.engine.store.scripts import see_alert
from crmd.errors import StoreUnavailable

EVERY_S = 5.0
FORGOTTEN_AFTER_MS = 900_000
"""An alert that no daemon has seen for so long is no longer known; if it still lasts it is a new one."""
QUEUE = "notification"
"""Where notifications go; what is wrong with this queue itself goes to the log."""
TITLE = "crmd"

_log = logging.getLogger("crmd")


class Alerts(Periodic):
    """Raises alerts. Daemons on one store raise each one once: they agree through keys in the store."""

    def __init__(
        self, control: Control, table: AlertsTable, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__("alerts", EVERY_S, _log)
        self._control = control
        self._store = control.store
        self._table = table
        self._monotonic = monotonic
        self._rules = AlertRules(table)
        self._told: dict[str, tuple[int, int]] = {}
        """By alert: since when it lasts (ms), and how often it was told again."""
        self._away_since: float | None = None
        self._away_told_at: float | None = None

    def configure(self, table: AlertsTable) -> None:
        """Applies other settings."""
        self._table = self._rules.table = table

    async def run_once(self) -> None:
        """Applies the rules once. Raises StoreError if the store answers with a refusal."""
        if not self._store.serves:
            self._while_away()
            return
        try:
            await self._after_away()
            queues = await observe(self._control.inspector)
            now_ms = await self._now_ms()
            findings = self._rules.apply(queues, self._monotonic(), now_ms / 1000)
            await asyncio.gather(*(self._handle(finding, now_ms) for finding in findings))
        except StoreUnavailable:
            self._while_away()

    # The queues

    async def _handle(self, finding: Finding, now_ms: int) -> None:
        name = f"{finding.kind}:{finding.queue}"
        if finding.wrong:
            await self._tell(name, finding, now_ms)
        elif finding.wrong is False:
            await self._tell_over(name, finding)

    async def _tell(self, name: str, finding: Finding, now_ms: int) -> None:
        """Tells an alert at its beginning, and each time that `repeat` has passed since then."""
        since_ms = await see_alert(self._store, finding.kind, finding.queue, now_ms, FORGOTTEN_AFTER_MS)
        repeats = max(0, now_ms - since_ms) // round(self._table.repeat * 1000)
        if self._told.get(name) == (since_ms, repeats):
            return
        lasts = f", for {about((now_ms - since_ms) / 1000)} now" if repeats else ""
        if await self._notify(
            f"{name}:{since_ms}:{repeats}", finding.queue, f"queue {finding.queue}: {finding.text}{lasts}"
        ):
            self._store.events.emit("alert.raised", kind=finding.kind, queue=finding.queue)
        self._told[name] = (since_ms, repeats)

    async def _tell_over(self, name: str, finding: Finding) -> None:
        key = keys.alert(finding.kind, finding.queue)
        since = await self._store.command("GET", key)
        self._told.pop(name, None)
        if since is None:
            return
        over = {"oldest_waiting": "its jobs start again", "failure_share": "its jobs no longer fail"}[finding.kind]
        if await self._notify(f"{name}:{int(since)}:over", finding.queue, f"queue {finding.queue}: {over}"):
            self._store.events.emit("alert.over", kind=finding.kind, queue=finding.queue)
        # Only now: a daemon that dies before leaves it to the others.
        await self._store.command("DEL", key)

    async def _notify(self, key: str, about_queue: str, text: str, unique_for: float | None = None) -> bool:
        """Adds a notification under a key that all daemons share; False where another daemon has."""
        if about_queue == QUEUE:
            _log.error("%s: %s", TITLE, text)
            return True
        payload = Notify(title=TITLE, message=text, level="error", channel=self._table.channel)
        new = NewJob(
            "notify",
            payload.model_dump(mode="json"),
            key=f"alert:{key}",
            unique_for=unique_for or self._table.repeat,
        )
        [added] = await self._control.enqueue(QUEUE, [new])
        return added.created

    async def _now_ms(self) -> int:
        seconds, micros = await self._store.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    # The store

    def _while_away(self) -> None:
        """To the log: there is nowhere else to put it."""
        now, limit = self._monotonic(), self._table.store_away
        if self._away_since is None:
            self._away_since = now
            self._rules.forget()
        told = self._away_told_at
        if (
            limit is None
            or now - self._away_since < limit
            or (told is not None and now - told < self._table.repeat)
        ):
            return
        self._away_told_at = now
        _log.error(
            "%s: the store has been unavailable for %s: %s",
            TITLE,
            about(now - self._away_since),
            self._store.trouble,
        )

    async def _after_away(self) -> None:
        """Tells of an outage that is over, if it was long."""
        since, limit = self._away_since, self._table.store_away
        if since is None:
            return
        seconds = self._monotonic() - since
        if limit is not None and seconds >= limit:
            # All daemons saw the same outage, and come back within a few seconds.
            text = f"the store was unavailable for {about(seconds)}; it is back"
            await self._notify("store", "", text, unique_for=max(60.0, limit))
        self._away_since = self._away_told_at = None
