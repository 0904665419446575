"""`Idempotency-Key` over HTTP: one request, however often it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from crmd.engine.admin.requests import Fingerprint, check_request_key
from crmd.engine.admin.views import NewJob
from crmd.engine.store.replies import Ack, AckKind
from tests.support.http import Site, site, token_table

JOBS = "/api/v1/queues/email/jobs"
TOKENS = {
    "shop": token_table("shop-token-12345", "enqueue", "read"),
    "admin": token_table("other-token-1234", "enqueue", "read"),
}
SHOP = {"Authorization": "Bearer shop-token-12345"}


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    """A server without workers, and two tokens."""
    async with site(store_url, auth={"tokens": TOKENS}) as made:
        yield made


async def post(
    web: Site, body: Any, key: str = "order-17", *, queue: str = "email", query: str = "", **headers: str
) -> tuple[int, Any, str | None]:
    """Status, answer and location of one request."""
    sent = {"Idempotency-Key": key, "Content-Type": "application/json", **headers}
    data = body if isinstance(body, str) else json.dumps(body)
    path = f"/api/v1/queues/{queue}/jobs{query}"
    status, answer, got = await web.call("POST", path, data=data, headers=sent)
    return status, answer, got.get("Location")


async def waiting(web: Site, queue: str = "email") -> int:
    counts = await web.harness.inspector.counts(queue)
    return counts.waiting + counts.delayed


async def finish(web: Site, kind: AckKind = AckKind.COMPLETE, *, kept: bool = True) -> None:
    """Runs what waits in `email` to its end."""
    scripts = web.harness.inspector.queue("email")
    for job_id, document, _ in (await scripts.claim("d:1", 500)).jobs:
        ended = orjson.dumps({**orjson.loads(document), "status": kind.status})
        await scripts.settle([Ack(job_id, "d:1", kind, ended, 0 if kept else -1)])


async def test_a_repeat_gets_the_first_answer_with_the_jobs_present_state(web: Site, ok: dict[str, Any]) -> None:
    status, first, location = await post(web, ok)
    assert (status, first.keys(), first["created"]) == (201, {"key", "created"}, True)
    status, again, where = await post(web, ok)
    assert (status, again["key"], again["created"], again["state"]) == (201, first["key"], True, "waiting")
    assert where == location
    await finish(web)
    assert (await post(web, ok))[1]["state"] == "completed"
    await web.expect(204, "DELETE", location or "")
    assert await post(web, ok) == (201, {**first, "state": None}, location)
    assert await waiting(web) == 0


@pytest.mark.parametrize("at_the_limit", [True, False], ids=["at the limit", "close to it"])
async def test_a_repeat_is_answered_while_memory_is_short(
    web: Site, ok: dict[str, Any], *, at_the_limit: bool
) -> None:
    batch = {"jobs": [ok, {**ok, "key": "a"}, {**ok, "key": "a"}]}
    _, first, location = await post(web, ok)
    _, many, _ = await post(web, batch, "batch-1")
    store = web.harness.store
    used = int((await store.redis.info("memory"))["used_memory"])
    await store.command("CONFIG", "SET", "maxmemory", 1 if at_the_limit else round(used * 1.1))
    try:
        if not at_the_limit:
            await store.probe()
        status, again, where = await post(web, ok)
        assert (status, again["key"], again["state"], where) == (201, first["key"], "waiting", location)
        status, again, _ = await post(web, batch, "batch-1")
        assert (status, [(job["key"], job["created"]) for job in again["jobs"]]) == (
            201,
            [(job["key"], job["created"]) for job in many["jobs"]],
        )
        assert [job["created"] for job in again["jobs"]] == [True, True, False]
        assert (await post(web, {**ok, "priority": 1}))[0] == 422
        assert (await post(web, ok, "order-18"))[0] == 507
    finally:
        await store.command("CONFIG", "SET", "maxmemory", 0)
    await store.probe()
    assert (await post(web, ok, "order-18"))[0] == 201
    assert await waiting(web) == 4


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.UNKNOWN, AckKind.FAILED])
async def test_a_repeat_after_the_outcome_was_trimmed_adds_nothing(
    web: Site, ok: dict[str, Any], kind: AckKind
) -> None:
    _, first, _ = await post(web, ok)
    await finish(web, kind, kept=False)
    assert (await post(web, ok))[:2] == (201, {**first, "state": None})
    assert await waiting(web) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"name": "Eve"}},
        {"delay": "10s"},
        {"at": "2030-01-01T00:00:00Z"},
        {"priority": 1},
        {"key": "own"},
        {"unique_for": "1h"},
    ],
)
async def test_another_body_under_the_same_key_is_refused(
    web: Site, ok: dict[str, Any], change: dict[str, Any]
) -> None:
    await post(web, ok)
    status, problem, _ = await post(web, {**ok, **change})
    assert status == 422
    assert "stands for another request" in problem["detail"]
    assert (await post(web, {"jobs": [ok]}))[0] == 422
    assert await waiting(web) == 1


async def test_the_order_of_members_and_white_space_do_not_matter(web: Site) -> None:
    body = '{"job":"greet","payload":{"name":"Ada"},"priority":1,"delay":"60s"}'
    same = '{ "delay" : "1m",\n "priority": 1, "payload": {"name": "\\u0041da"}, "job": "greet" }'
    first, again = await post(web, body), await post(web, same)
    assert (first[0], again[0], again[1]["key"]) == (201, 201, first[1]["key"])


def test_payloads_are_told_apart_by_what_they_say() -> None:
    def fingerprint(*payloads: dict[str, Any], many: bool = True) -> bytes:
        whole = Fingerprint(many=many)
        for payload in payloads:
            whole.add(NewJob("greet", payload))
        return whole.digest()

    def mark(payload: dict[str, Any]) -> bytes:
        return fingerprint(payload, many=False)

    assert mark({"a": {"x": 1, "y": [1, {"u": 1, "v": 2}]}, "b": "ä"}) == mark(
        {"b": "\u00e4", "a": {"y": [1, {"v": 2, "u": 1}], "x": 1}}
    )
    different: list[dict[str, Any]] = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": None},
        {"a": True},
        {"a": [1, 2]},
        {"a": [2, 1]},
        {"a": 10**30},
    ]
    assert len({mark(payload) for payload in different}) == len(different)
    one, two = {"n": 1}, {"n": 2}
    assert fingerprint(one, two) != fingerprint(two, one)
    assert fingerprint(one) != fingerprint(one, many=False)


async def test_256_at_once_are_one_job(web: Site, ok: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(post(web, ok) for _ in range(256)))
    assert {status for status, _, _ in answers} == {201}
    assert len({answer["key"] for _, answer, _ in answers}) == 1
    assert all(answer["created"] for _, answer, _ in answers)
    assert await waiting(web) == 1


async def test_256_at_once_over_two_daemons_are_one_job(web: Site, store_url: str, ok: dict[str, Any]) -> None:
    async with site(store_url, auth={"tokens": TOKENS}) as other:
        answers = await asyncio.gather(*(post((web, other)[number % 2], ok) for number in range(256)))
        assert {status for status, _, _ in answers} == {201}
        assert len({answer["key"] for _, answer, _ in answers}) == 1
        assert sum("state" not in answer for _, answer, _ in answers) == 1, "one was the first"
        assert await waiting(web) == 1


async def test_two_bodies_at_once_are_one_job_and_one_refusal(web: Site, ok: dict[str, Any]) -> None:
    bodies = [{**ok, "payload": {"name": f"{number % 2}"}} for number in range(40)]
    answers = await asyncio.gather(*(post(web, body) for body in bodies))
    assert sorted(status for status, _, _ in answers) == [201] * 20 + [422] * 20
    assert await waiting(web) == 1


async def test_it_is_of_one_principal_and_one_queue(web: Site, ok: dict[str, Any]) -> None:
    """The basic-auth user and a token may have the same name."""
    for headers in ({}, SHOP, {"Authorization": "Bearer other-token-1234"}):
        for queue in ("email", "import"):
            for again in range(2):
                status, answer, _ = await post(web, ok, queue=queue, **headers)
                assert (status, "state" in answer) == (201, bool(again))
    assert (await waiting(web), await waiting(web, "import")) == (3, 3)


async def test_a_batch_as_a_whole(web: Site, ok: dict[str, Any]) -> None:
    await post(web, {**ok, "key": "taken"}, "before")
    batch = {"jobs": [ok, {**ok, "key": "taken"}, {**ok, "key": "own"}, ok]}
    status, first, location = await post(web, batch)
    assert (status, location) == (201, JOBS)
    assert [one["created"] for one in first["jobs"]] == [True, False, True, True]
    await finish(web)
    status, again, where = await post(web, batch)
    assert (status, where) == (201, JOBS)
    assert again["jobs"] == [{**one, "state": "completed"} for one in first["jobs"]]
    assert (await post(web, {"jobs": batch["jobs"][::-1]}))[0] == 422
    assert (await post(web, {"jobs": batch["jobs"][:3]}))[0] == 422
    assert await waiting(web) == 0


async def test_a_thousand_jobs_are_one_step(web: Site, ok: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(post(web, {"jobs": [ok] * 1_000}) for _ in range(3)))
    keys = [[one["key"] for one in answer["jobs"]] for _, answer, _ in answers]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 1_000
    assert await waiting(web) == 1_000


async def test_a_taken_key_is_answered_as_the_first_time(web: Site, ok: dict[str, Any]) -> None:
    job = {**ok, "key": "own"}
    assert (await post(web, job, "one"))[0] == 201
    for _ in range(2):
        status, answer, location = await post(web, job, "two")
        assert (status, answer["created"], location) == (200, False, f"{JOBS}/own")
    await finish(web, kept=False)
    assert (await post(web, job, "one"))[1] == {"key": "own", "created": True, "state": None}
    assert (await post(web, job, "two"))[0] == 200
    assert await waiting(web) == 0


async def test_a_wait_on_a_repeat_is_for_the_jobs_outcome(web: Site, ok: dict[str, Any]) -> None:
    _, first, _ = await post(web, ok)
    status, job, _ = await post(web, ok, query="?wait=10ms")
    assert (status, job["state"], job["key"]) == (202, "waiting", first["key"])
    waits = [asyncio.create_task(post(web, ok, query="?wait=20s")) for _ in range(3)]
    await web.work()
    for status, job, _ in await asyncio.gather(*waits):
        assert (status, job["state"], job["created"], job["key"]) == (201, "completed", True, first["key"])


@pytest.mark.parametrize(("keys", "mixed"), [((None, None), 0), (("a", "b"), 0), (("a", None), 1)])
async def test_only_a_batch_with_and_without_keys_is_known_longer(
    web: Site, ok: dict[str, Any], keys: tuple[str | None, ...], mixed: int
) -> None:
    await post(web, {"jobs": [{**ok, "key": key} if key else ok for key in keys]})
    [record] = await web.harness.store.command("HVALS", web.harness.inspector.queue("email").keys.requests)
    assert record[14] >> 7 == mixed


async def test_a_job_delayed_beyond_a_day(web: Site, ok: dict[str, Any]) -> None:
    job = {**ok, "delay": "50h"}
    _, first, location = await post(web, job)
    assert (await post(web, job))[1]["state"] == "delayed"
    scripts = web.harness.inspector.queue("email")
    assert await scripts.promote(scripts.keys.job_id(first["key"]))
    await finish(web, kept=False)
    assert await post(web, job) == (201, {**first, "state": None}, location)
    assert await waiting(web) == 0


@pytest.mark.parametrize("key", ["a", '"a"', "x" * 255, "!#~", '"with\\"quotes\\"and\\\\"', "{not/a:job\\key}"])
async def test_keys_that_are_taken(web: Site, ok: dict[str, Any], key: str) -> None:
    assert (await post(web, ok, key))[0] == 201
    bare = check_request_key(key)
    assert (await post(web, ok, f'"{bare}"' if bare == key and "\\" not in key else bare))[1]["state"] == "waiting"


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a b", "ä", "a\tb", '"a b"'])
async def test_a_key_that_is_none_is_refused_in_one_clear_line(web: Site, ok: dict[str, Any], key: str) -> None:
    status, problem, _ = await post(web, ok, key)
    assert status in (400, 422)
    if status == 422:
        assert "an idempotency key is 1 to 255 visible ASCII characters" in problem["detail"]
    assert await waiting(web) == 0


async def test_two_keys_are_refused(web: Site, ok: dict[str, Any]) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), *web.headers.items()]
    async with web.session.post(web.url + JOBS, json=ok, headers=headers) as response:
        assert response.status == 422
        assert "2 times" in (await response.json())["detail"]


async def test_a_request_that_is_refused_leaves_its_key_free(web: Site, ok: dict[str, Any]) -> None:
    assert (await post(web, {**ok, "payload": {}}))[0] == 422
    assert (await post(web, ok))[0] == 201
