"""Handlers whose import takes until the store at `$STORE_SOCKET` serves; a daemon imports them as it is built."""

from __future__ import annotations

import os

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from crmd import JobContext, job
from tests.support.daemon_jobs import Work
from tests.support.wait import wait_until_sync

IMPORT_SECONDS = 15.0


@job(queue="work", payload=Work)
async def late(ctx: JobContext, payload: Work) -> None:
    """Does nothing."""


def _serves() -> bool:
    try:
        with Redis(unix_socket_path=os.environ["STORE_SOCKET"], retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except RedisError:
        return False


wait_until_sync(_serves, IMPORT_SECONDS, "the store serves while the daemon is built")
