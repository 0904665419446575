"""The cache that application code uses, against a real store."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from crmd.cache.cache import DEFAULT_PREFIX, SOCKET_SECONDS, Cache
from crmd.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until


@pytest.fixture
async def cache(store_url: str) -> AsyncIterator[Cache]:
    async with Cache.from_url(store_url) as cache:
        yield cache


class Source:
    """Something slow to fetch from, that counts."""

    def __init__(self, value: Any = "value") -> None:
        self.value = value
        self.calls = 0
        self.open = asyncio.Event()

    async def fetch(self) -> Any:
        self.calls += 1
        await self.open.wait()
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        "",
        "☎ \U0001f600",
        [],
        {},
        {"a": [1, {"b": None}]},
        2**53 + 1,
        2**64,
        -(2**70),
        [10**30, 0.1],
        "\ud800",
        {"x": "null"},
        {"nested": [[[[]]]]},
    ],
)
async def test_values_come_back_as_they_went_in(cache: Cache, value: Any) -> None:
    await cache.set("key", value)
    back = await cache.get("key", "absent")
    assert back == value
    assert type(back) is type(value)


async def test_instants_become_text(cache: Cache) -> None:
    await cache.set("key", {"at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert await cache.get("key") == {"at": "2026-01-02T00:00:00+00:00"}


@pytest.mark.parametrize("value", [math.nan, [math.inf], {1, 2}, object(), b"bytes", {"a": {"b": math.nan}}])
async def test_what_is_not_json_is_refused(cache: Cache, value: Any) -> None:
    with pytest.raises(TypeError, match="the value for cache key 'key' is not JSON"):
        await cache.set("key", value)
    assert not await cache.exists("key")


async def test_get_of_nothing_is_the_default(cache: Cache) -> None:
    assert await cache.get("key") is None
    assert await cache.get("key", 7) == 7
    await cache.set("key", None)
    assert await cache.get("key", 7) is None


async def test_keys_stand_under_the_prefix(cache: Cache, redis: Redis, store_url: str) -> None:
    await cache.set("a", 1)
    async with Cache.from_url(store_url, prefix="shop:") as shop:
        await shop.set("a", 2)
    assert await redis.get(f"{DEFAULT_PREFIX}a") == b"1"
    assert await redis.get("shop:a") == b"2"


async def test_delete_and_exists(cache: Cache) -> None:
    await cache.set("a", 1)
    await cache.set("b", 1)
    assert await cache.exists("a")
    assert await cache.delete("a", "b", "c") == 2
    assert await cache.delete() == 0
    assert not await cache.exists("a")


async def test_ttl_is_in_seconds(cache: Cache, redis: Redis) -> None:
    await cache.set("long", 1, ttl=90)
    assert 89_000 < await redis.pttl(f"{DEFAULT_PREFIX}long") <= 90_000
    await cache.set("short", 1, ttl=0.05)
    await wait_until(lambda: _absent(cache, "short"))
    await cache.set("long", 1)
    assert await redis.pttl(f"{DEFAULT_PREFIX}long") == -1


async def _absent(cache: Cache, key: str) -> bool:
    return not await cache.exists(key)


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, True, "10", 1e12])
async def test_a_bad_ttl_is_refused(cache: Cache, ttl: Any) -> None:
    for call in (cache.set("key", 1, ttl), cache.incr("key", 1, ttl), cache.get_cached("key", ttl, dict)):
        with pytest.raises(ValueError, match="a ttl is a number of seconds"):
            await call


@pytest.mark.parametrize("key", ["", None, 7, b"bytes"])
async def test_a_bad_key_is_refused(cache: Cache, key: Any) -> None:
    with pytest.raises(ValueError, match="a cache key is a string"):
        await cache.get(key)


async def test_counting(cache: Cache, redis: Redis) -> None:
    assert await cache.incr("n") == 1
    assert await cache.incr("n", 10) == 11
    assert await cache.decr("n", 2) == 9
    assert await cache.get("n") == 9
    assert await redis.pttl(f"{DEFAULT_PREFIX}n") == -1
    assert sorted(await asyncio.gather(*(cache.incr("m") for _ in range(50)))) == list(range(1, 51))


async def test_the_ttl_of_a_count_runs_from_its_first(cache: Cache, redis: Redis) -> None:
    await cache.incr("n", ttl=100)
    await redis.pexpire(f"{DEFAULT_PREFIX}n", 50_000)
    await cache.incr("n", ttl=100)
    assert await redis.pttl(f"{DEFAULT_PREFIX}n") <= 50_000


async def test_what_others_left_in_the_keys_is_explained(cache: Cache, redis: Redis) -> None:
    await redis.set(f"{DEFAULT_PREFIX}text", "not json")
    with pytest.raises(StoreError, match="cache key 'text' holds something that is not JSON"):
        await cache.get("text")
    with pytest.raises(StoreError, match=r"cache incr 'text': .*not an integer"):
        await cache.incr("text")
    await redis.zadd(f"{DEFAULT_PREFIX}zset", {"x": 1})
    with pytest.raises(StoreError, match=r"cache get 'zset': .*WRONGTYPE"):
        await cache.get("zset")


async def test_get_cached_fetches_once_for_fifty(cache: Cache, redis: Redis) -> None:
    source = Source({"a": [1]})
    callers = [asyncio.create_task(cache.get_cached("key", 60, source.fetch)) for _ in range(50)]
    await wait_until(lambda: source.calls)
    source.open.set()
    values = await asyncio.gather(*callers)
    assert source.calls == 1
    assert values == [{"a": [1]}] * 50
    values[0]["a"].append(2)  # each has its own
    assert values[1] == {"a": [1]}
    assert await cache.get_cached("key", 60, source.fetch) == {"a": [1]}
    assert source.calls == 1
    assert await redis.keys("*") == [f"{DEFAULT_PREFIX}key".encode()]
    assert await redis.pttl(f"{DEFAULT_PREFIX}key") > 59_000


async def test_get_cached_fetches_once_for_two_caches(store_url: str) -> None:
    source = Source()
    # Fifty connect at once: on a busy machine that takes longer than the clients of `from_url` wait.
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Redis.from_url(store_url)) for _ in range(2)]
        both = [await stack.enter_async_context(Cache(one, timeout_seconds=60.0)) for one in clients]
        callers = [asyncio.create_task(each.get_cached("key", 60, source.fetch)) for each in both * 25]
        await wait_until(lambda: source.calls)
        source.open.set()
        assert await asyncio.gather(*callers) == ["value"] * 50
    assert source.calls == 1


async def test_get_cached_takes_a_sync_function_and_none(cache: Cache) -> None:
    calls: list[int] = []
    for _ in range(3):
        assert await cache.get_cached("key", 60, lambda: calls.append(1)) is None
    assert calls == [1]


async def test_a_fetch_that_fails_raises_to_all_and_keeps_nothing(cache: Cache, redis: Redis) -> None:
    source = Source(LookupError("no such customer"))
    callers = [asyncio.create_task(cache.get_cached("key", 60, source.fetch)) for _ in range(20)]
    await wait_until(lambda: source.calls)
    source.open.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no such customer"] * 20
    assert source.calls == 1
    assert await redis.keys("*") == []
    source.value = 5
    assert await cache.get_cached("key", 60, source.fetch) == 5


async def test_a_cancelled_caller_leaves_the_fetch_to_the_others(cache: Cache) -> None:
    source = Source()
    callers = [asyncio.create_task(cache.get_cached("key", 60, source.fetch)) for _ in range(3)]
    await wait_until(lambda: source.calls)
    callers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    source.open.set()
    assert await asyncio.gather(*callers[1:]) == ["value", "value"]
    assert source.calls == 1


async def test_a_lock_that_a_dead_process_left_expires(cache: Cache, redis: Redis) -> None:
    await redis.set("crmd:cache-lock:key", "dead", px=200)
    assert await cache.get_cached("key", 60, lambda: "value") == "value"
    assert await redis.keys("*lock*") == []


async def test_closing_ends_a_fetch_that_is_under_way(store_url: str) -> None:
    source = Source()
    cache = Cache.from_url(store_url)
    caller = asyncio.create_task(cache.get_cached("key", 60, source.fetch))
    await wait_until(lambda: source.calls)
    await cache.aclose()
    await cache.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await caller


async def test_delete_pattern_leaves_the_others(cache: Cache, redis: Redis, store_url: str) -> None:
    pipe = redis.pipeline(transaction=False)
    for number in range(5000):
        pipe.set(f"{DEFAULT_PREFIX}user:{number}", "1")
    for number in range(500):
        pipe.set(f"{DEFAULT_PREFIX}order:{number}", "1")
        pipe.set(f"user:{number}", "1")
    await pipe.execute()
    assert await cache.delete_pattern("user:*") == 5000
    assert await redis.dbsize() == 1000
    assert await cache.delete_pattern("user:*") == 0
    assert await cache.delete_pattern("order:1?") == 10


async def test_glob_characters_of_the_prefix_are_plain(redis: Redis, store_url: str) -> None:
    async with Cache.from_url(store_url, prefix=r"a*[b]?\:") as odd:
        await odd.set("x", 1)
        await redis.set(r"aXb?\:x", "1")
        await redis.set("aXbY:x", "1")
        assert await odd.delete_pattern("*") == 1
    assert await redis.dbsize() == 2


async def test_health(cache: Cache) -> None:
    health = await cache.health()
    assert health["connected"] is True
    assert 0 < health["latency_ms"] < 1000


async def test_a_store_that_is_away_fails_fast_and_is_found_again(own_store: StoreServer) -> None:
    async with Cache.from_url(own_store.url) as cache:
        await cache.set("key", 1)
        own_store.kill()
        began = time.monotonic()
        for call in (cache.get("key"), cache.set("key", 1), cache.get_cached("key", 1, dict), cache.incr("n")):
            with pytest.raises(StoreUnavailable, match="the store is unavailable"):
                await call
        assert time.monotonic() - began < HANG_S
        assert await cache.health() == {"connected": False, "latency_ms": None}
        own_store.start()
        assert await cache.get("key") == 1


async def test_a_store_that_says_nothing_is_not_waited_for(own_store: StoreServer) -> None:
    async with Cache.from_url(own_store.url, timeout_seconds=0.1) as cache:
        await cache.set("key", 1)
        own_store.pause()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="the store is unavailable"):
            await cache.get("key")
        assert time.monotonic() - began < SOCKET_SECONDS, "it heeds its own time"
        own_store.resume()
        assert await cache.get("key") == 1


async def test_a_full_store_says_so_and_a_fetched_value_is_used(own_store: StoreServer) -> None:
    async with Cache.from_url(own_store.url) as cache:
        with own_store.client() as client:
            client.config_set("maxmemory", "1")
        for call in (cache.set("key", 1), cache.incr("n", ttl=5)):
            with pytest.raises(StoreFull, match="at its memory limit"):
                await call
        assert await cache.get("key") is None


async def test_wrong_credentials_are_named(own_store: StoreServer) -> None:
    with own_store.client() as client:
        client.config_set("requirepass", "right")
    for url in (own_store.url, f"unix://:wrong@{own_store.socket}"):
        async with Cache.from_url(url) as cache:
            with pytest.raises(StoreUnusable, match="refuses the user or password") as caught:
                await cache.get("key")
            assert "wrong" not in str(caught.value)


async def test_a_client_that_was_passed_in_stays_open(redis: Redis) -> None:
    async with Cache(redis, "mine:") as cache:
        await cache.set("a", 1)
    assert await redis.get("mine:a") == b"1"


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme"):
        Cache.from_url("http://localhost")


async def test_an_absent_socket_is_away(tmp_path: Path) -> None:
    async with Cache.from_url(f"unix://{tmp_path}/none") as cache:
        with pytest.raises(StoreUnavailable, match="No such file"):
            await cache.get("key")
