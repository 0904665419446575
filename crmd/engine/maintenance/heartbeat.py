"""A daemon's hold on its jobs: its instance id, and the thread that renews it while the event loop lives."""

from __future__ import annotations

import logging
import secrets
import threading
import time

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from crmd.component import PeriodicThread
from crmd.engine.store import keys
from crmd.engine.store.client import StoreTarget
from crmd.engine.store.library import Script
from crmd.telemetry.throttle import Throttle

LEASE_S = 30.0
"""After this long without renewal, by their own clocks, other daemons may take a daemon's jobs."""
RENEW_EVERY_S = 5.0
LOOP_SILENCE_MAX_S = 120.0
"""A loop blocked for longer is taken for dead: its leases run out, and systemd's watchdog has long acted."""

_log = logging.getLogger(__name__)


def new_instance_id(host_id: str) -> str:
    """The name of one life of a daemon: the host id of its state folder, and what is new each time."""
    return f"{host_prefix(host_id)}{secrets.token_hex(6)}"


def host_prefix(host_id: str) -> str:
    """What all instance ids of one state folder begin with."""
    return f"{host_id}-"


class LeaseKeeper(PeriodicThread):
    """Renews the leases of one daemon from a thread, so that a handler that blocks the loop loses no job.

    `script` is renew.lua.
    """

    def __init__(self, target: StoreTarget, script: Script, instance_id: str) -> None:
        super().__init__("crmd leases", RENEW_EVERY_S)
        self.instance_id = instance_id
        self._script = script
        self._client = Redis.from_url(
            target.url, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0)
        )
        self._alive_at = time.monotonic()
        self._errors = Throttle(30.0)

    def loop_is_alive(self) -> None:
        """The event loop calls this at least once a second."""
        self._alive_at = time.monotonic()

    def run_once(self) -> None:
        """Renews, unless the event loop has been silent for too long."""
        if time.monotonic() - self._alive_at > LOOP_SILENCE_MAX_S:
            return
        own = self.instance_id
        names = (keys.DAEMONS, keys.daemon_info(own), keys.daemon_jobs(own), keys.UNIQUE_FOR)
        try:
            self._client.eval(self._script.text, len(names), *names, own, str(round(LEASE_S * 1000)), "", "0", "")
        except RedisError as error:
            if self._errors.allow("renew") is not None:
                _log.warning("cannot renew the leases: %s", error)

    def _run(self, ended: threading.Event) -> None:
        try:
            super()._run(ended)
        finally:
            self._client.close()
