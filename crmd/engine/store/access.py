"""Whether the store lets the daemon do its work: its user's permissions, and whether it takes writes now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.scripts import denied
from crmd.errors import StoreError, StoreUnusable

PERMISSIONS_EVERY = 30
"""Between looks at the permissions while nothing is refused, in looks at whether writes are taken."""
CHECKS_PER_CALL = 500
"""Bounds one script's time: some 0.5 ms of the store."""
NAMED_MAX = 5

_KEY_COMMANDS = (
    "BLMOVE DEL EXISTS GET HDEL HEXISTS HGET HGETALL HINCRBY HKEYS HLEN HMGET HSCAN HSET LINDEX LLEN LPOP "
    "LPUSH LRANGE LREM LTRIM MGET MSET PERSIST PEXPIRE PTTL RPUSH SADD SET SISMEMBER SREM TYPE UNLINK ZADD "
    "ZCARD ZCOUNT ZMSCORE ZRANGE ZRANGEBYSCORE ZREM ZREMRANGEBYRANK ZREVRANGE ZSCORE"
)
KEY_COMMANDS = tuple(_KEY_COMMANDS.split())
"""What is done to keys, by scripts and without."""
OTHER_COMMANDS = {
    "EVAL": ("return 1", "0"),
    "EVALSHA": ("0", "0"),
    "INFO": (),
    "PING": (),
    "PUBSUB NUMPAT": (),
    "SCAN": ("0",),
    "SCRIPT LOAD": ("return 1",),
    "TIME": (),
}
WRITE = "PEXPIRE"
"""A command that reads and writes a key of any type: it shows whether the user may use that key."""
ANY = "KEY"
"""Stands for any job key, limit key or other end of a name."""

Command = tuple[str, ...]


class StoreAccess:
    """Looks at what the store grants and takes, and notes it in `Store.refusal`: one answer for all who ask."""

    def __init__(self, store: Store, queues: Callable[[], Iterable[QueueKeys]]) -> None:
        self._store = store
        self._queues = queues
        self._looks = 0

    async def require(self) -> None:
        """Looks at all of it. Raises StoreUnusable that names what is not granted, or what a write ends with."""
        missing = await self._missing()
        if missing:
            named = ", ".join(missing[:NAMED_MAX])
            more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
            raise StoreUnusable(
                f"{self._store.target.masked}: the store's user lacks permission for {named}{more}; grant it with "
                "ACL SETUSER (docs/reference/keys.md, Permissions, has the whole line)"
            )
        await self._store.require_writes()
        self._store.note_refusal(None)

    async def run_once(self) -> None:
        """Looks again and notes what it found; never raises for what the store says."""
        store, number = self._store, self._looks
        self._looks += 1
        try:
            if store.refusal is not None or number % PERMISSIONS_EVERY == 0:
                await self.require()
            else:
                await store.require_writes()
        except StoreUnusable as error:
            store.note_refusal(str(error))
        except StoreError:
            pass  # noted by the store already, or it is unavailable

    async def _missing(self) -> list[str]:
        """What is not granted, in words."""
        commands: dict[str, Command] = {name: (name, *[keys.DAEMONS] * 2) for name in KEY_COMMANDS}
        commands |= {name: (*name.split(), *args) for name, args in OTHER_COMMANDS.items()}
        denied = await self._denied(commands)
        if denied.issuperset(KEY_COMMANDS):  # it is the key, not each of them
            denied = denied.difference(KEY_COMMANDS) | {f"key {keys.DAEMONS}"}
        places = {f"key {name}": (WRITE, name) for name in self._key_names() if WRITE not in denied}
        for channel in (keys.WAKE_CHANNEL, *(queue.job_id(ANY) for queue in self._queues())):
            places |= {f"{verb} on channel {channel}": (verb, channel) for verb in ("PUBLISH", "SUBSCRIBE")}
        not_there = await self._denied(places)
        return sorted(denied) + [place for place in places if place in not_there]

    def _key_names(self) -> Iterator[str]:
        """One name of each form that crmd uses."""
        yield from (keys.daemon_info(ANY), keys.daemon_jobs(ANY), keys.schedule(ANY), keys.alert(ANY, ANY))
        yield from (keys.ABORT_PREFIX + ANY, keys.UNIQUE_FOR)
        for queue in self._queues():
            for attribute, value in vars(queue).items():
                if isinstance(value, str) and attribute != "name":
                    yield value + ANY if attribute.endswith("_prefix") else value

    async def _denied(self, commands: Mapping[str, Command]) -> set[str]:
        names, found = list(commands), set[str]()
        for start in range(0, len(names), CHECKS_PER_CALL):
            batch = names[start : start + CHECKS_PER_CALL]
            found |= {batch[i] for i in await denied(self._store, [commands[name] for name in batch])}
        return found
