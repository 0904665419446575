"""Jobs over HTTP: adding, looking, acting."""

from __future__ import annotations

import json
import sys
import threading
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from pydantic import model_validator
from saq import Job
from saq.queue.redis import RedisQueue

from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.email.payloads import SendEmail
from crmd.crm.payload import Payload
from crmd.engine.admin import listing
from crmd.engine.admin.views import NewJob, State
from crmd.jobs import JobContext, JobSpec
from tests.support.http import Site
from tests.support.wait import wait_until

JOBS = "/api/v1/queues/email/jobs"
FIELDS = {
    *("queue", "job", "key", "state", "payload", "result", "error", "progress", "attempt", "attempts", "delivery"),
    *("priority", "enqueued_at", "started_at", "finished_at", "run_at", "timeline"),
}


async def test_one_job_is_added(web: Site, ok: dict[str, Any]) -> None:
    status, body, headers = await web.call("POST", JOBS, json=ok)
    assert (status, body.keys(), body["created"]) == (201, {"key", "created"}, True)
    assert headers["Location"] == f"{JOBS}/{body['key']}"
    job = await web.get(headers["Location"])
    assert job.keys() == FIELDS
    assert (job["state"], job["payload"], job["attempts"], job["priority"]) == ("waiting", {"name": "Ada"}, 2, 0)


async def test_jobs_that_are_not_imported_yet_are_imported_beside_the_event_loop(web: Site) -> None:
    sys.modules.pop("tests.support.late_job", None)
    web.harness.catalog.add_late("email", "tests.support.late_job:late_job")
    status, _, _ = await web.call("POST", JOBS, json={"job": "late_job"})
    assert status == 201
    assert sys.modules["tests.support.late_job"].IMPORTED_BY is not threading.main_thread()


async def test_under_a_taken_key_the_existing_job_is_returned(web: Site, ok: dict[str, Any]) -> None:
    first = {**ok, "key": "order:1"}
    assert (await web.call("POST", JOBS, json=first))[0] == 201
    status, body, headers = await web.call("POST", JOBS, json={**first, "payload": {"name": "Eve"}})
    assert (status, body["created"], body["key"], body["payload"]) == (200, False, "order:1", {"name": "Ada"})
    assert headers["Location"] == f"{JOBS}/order%3A1"
    assert (await web.get(headers["Location"]))["key"] == "order:1"


async def test_many_jobs_are_added_at_once(web: Site, ok: dict[str, Any]) -> None:
    status, body, headers = await web.call(
        "POST", JOBS, json={"jobs": [{**ok, "key": "a"}, ok, {**ok, "key": "a"}]}
    )
    assert (status, headers["Location"]) == (201, JOBS)
    assert [one["created"] for one in body["jobs"]] == [True, True, False]
    assert await web.expect(200, "POST", JOBS, json={"jobs": [{**ok, "key": "a"}]}) == {
        "jobs": [{"key": "a", "created": False}]
    }


async def test_a_thousand_jobs_fit_and_one_more_does_not(web: Site, ok: dict[str, Any]) -> None:
    status, body, _ = await web.call("POST", JOBS, json={"jobs": [ok] * 1000})
    assert (status, len(body["jobs"])) == (201, 1000)
    assert (await web.call("POST", JOBS, json={"jobs": [ok] * 1001}))[0] == 422
    assert (await web.call("POST", JOBS, json={"jobs": []}))[0] == 422


async def test_all_are_checked_before_any_is_stored(web: Site, ok: dict[str, Any]) -> None:
    jobs: list[Any] = [
        ok,
        {"job": "greet", "payload": {"name": ""}},
        {"job": "nope"},
        {**ok, "key": "a b", "priority": 11},
        {**ok, "delay": 5},
        {"name": "greet", "data": {}},
        5,
        {"job": "greet", "payload": {"name": "x", "typo": 1}},
        {**ok, "delay": "1s", "at": "2030-01-01T00:00:00Z"},
    ]
    body = await web.expect(422, "POST", JOBS, json={"jobs": jobs})
    assert "8 of the jobs cannot be added, and none was; the first, at index 1: payload.name" in body["detail"]
    found = {one["index"]: one["errors"] for one in body["errors"]}
    assert list(found) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[2] == [{"field": "job", "reason": "queue email has no job 'nope'; it knows: greet"}]
    assert {error["field"] for error in found[3]} == {"key", "priority"}
    assert 'write "5s"' in found[4][0]["reason"]
    assert found[7][0]["field"] == "payload.typo"
    assert (await web.harness.inspector.counts("email")).waiting == 0


async def test_bulls_form_is_answered_with_ours(web: Site) -> None:
    bull = {
        "name": "greet",
        "data": {"name": "Ada"},
        "opts": {"delay": 5000, "priority": 2, "jobId": 7, "attempts": 3},
    }
    body = await web.expect(422, "POST", JOBS, json=bull)
    assert "{job, payload, delay, at, priority, key, unique_for}" in body["detail"]
    assert body["example"] == {
        "job": "greet",
        "payload": {"name": "Ada"},
        "delay": "5000ms",
        "priority": 2,
        "key": "7",
    }
    assert (await web.call("POST", JOBS, json=body["example"]))[0] == 201


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"delay": "none"}, "leave it out"),
        ({"delay": "9999d"}, "longer than ten years"),
        ({"at": "2030-01-01T00:00:00"}, "has no time zone"),
        ({"at": 1893456000}, "write an instant as text"),
        ({"at": "tomorrow"}, "is no instant"),
        ({"priority": "1"}, "valid integer"),
        ({"priority": True}, "valid integer"),
        ({"priority": -1}, "greater than or equal to 0"),
        ({"payload": []}, "valid dictionary"),
        ({"key": ""}, "is not a key"),
        ({"key": "x" * 201}, "is not a key"),
        ({"job": 1}, "valid string"),
        ({"unique_for": "-1s"}, "is not a duration"),
        ({"unique_for": "366d"}, "longer than 365 days"),
        ({"attempts": 3}, "no such field here"),
    ],
)
async def test_mistakes_are_explained(web: Site, ok: dict[str, Any], extra: dict[str, Any], words: str) -> None:
    body = await web.expect(422, "POST", JOBS, json={**ok, **extra})
    assert words in body["detail"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"null", 422),
        (b"[]", 422),
        (b'"x"', 422),
        (b"{", 422),
        (b'{"job": NaN}', 422),
        (b'{"job": 1' + b"0" * 5000 + b"}", 422),
        (b"\xff\xfe", 422),
        (b"[" * 100_000, 422),
        (b'{"jobs": 5}', 422),
        (b'{"jobs": [], "x": 1}', 422),
    ],
)
async def test_no_body_breaks_it(web: Site, raw: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    found, body, answer_headers = await web.call("POST", JOBS, data=raw, headers=headers)
    assert (found, answer_headers["Content-Type"]) == (status, "application/problem+json")
    assert body["detail"]


async def test_what_is_too_large_is_413(web: Site, ok: dict[str, Any]) -> None:
    large = {"job": "greet", "payload": {"name": "x" * 256 * 1024}}
    assert "at most 262,144" in await web.problem(413, "POST", JOBS, json=large)
    status, body, _ = await web.call("POST", JOBS, json={"jobs": [ok, large]})
    assert (status, [one["index"] for one in body["errors"]]) == (413, [1])
    assert (await web.call("POST", JOBS, json={"jobs": [{"job": "nope"}, large]}))[0] == 422
    assert "over 8,388,608 bytes" in await web.problem(
        413, "POST", JOBS, data=BytesIO(b" " * (8 * 1024 * 1024 + 1)), headers=_JSON
    )
    fits = {"job": "greet", "payload": {"name": "x" * 250 * 1024}}
    assert (await web.call("POST", JOBS, json=fits))[0] == 201


_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "name",
    ["ü\u2028\U0001f600", "\ud800", "\x00", "9" * 300, "</script>"],
)
async def test_payloads_come_back_as_they_went_in(web: Site, name: str) -> None:
    body = json.dumps({"job": "greet", "payload": {"name": name}})
    status, added, _ = await web.call("POST", JOBS, data=body, headers=_JSON)
    if name == "\ud800":
        assert status == 422
        return
    assert status == 201
    assert (await web.get(f"{JOBS}/{added['key']}"))["payload"]["name"] == name


async def test_wait_returns_the_outcome(web: Site, ok: dict[str, Any]) -> None:
    await web.work()
    status, body, headers = await web.call("POST", f"{JOBS}?wait=10s", json=ok)
    assert (status, body["state"], body["result"], body["created"]) == (201, "completed", "hello Ada", True)
    assert body["key"] in headers["Location"]
    slow = {"job": "greet", "payload": {"name": "Ada", "seconds": 30}, "key": "slow"}
    status, body, _ = await web.call("POST", f"{JOBS}?wait=100ms", json=slow)
    assert (status, body["state"] in ("active", "waiting"), body["created"]) == (202, True, True)
    failing = {"job": "greet", "payload": {"name": "Ada", "fail": True}}
    status, body, _ = await web.call("POST", f"{JOBS}?wait=10s", json=failing)
    assert (status, body["state"]) == (201, "failed")
    assert "Ada <b>went</b> wrong" in body["error"]


@pytest.mark.parametrize("query", ["wait=30", "wait=6m", "wait=none", "wait=", "wate=1s", "wait=1s&wait=2s"])
async def test_bad_waits_are_refused_before_anything_is_stored(web: Site, ok: dict[str, Any], query: str) -> None:
    assert (await web.call("POST", f"{JOBS}?{query}", json=ok))[0] == 422
    assert (await web.harness.inspector.counts("email")).waiting == 0


async def test_wait_is_for_one_job(web: Site, ok: dict[str, Any]) -> None:
    assert (await web.call("POST", f"{JOBS}?wait=1s", json={"jobs": [ok]}))[0] == 422


async def test_delay_and_at_and_promote(web: Site, ok: dict[str, Any]) -> None:
    await web.call("POST", JOBS, json={**ok, "key": "later", "delay": "1h", "priority": 3})
    await web.call("POST", JOBS, json={**ok, "key": "then", "at": "2099-01-01T00:00:00+02:00"})
    then = await web.get(f"{JOBS}/then")
    assert (then["state"], then["run_at"]) == ("delayed", "2098-12-31T22:00:00.000Z")
    status, body, _ = await web.call("POST", f"{JOBS}/later/promote")
    assert (status, body["state"], body["priority"]) == (200, "waiting", 3)
    assert "only delayed jobs are promoted" in await web.problem(409, "POST", f"{JOBS}/later/promote")


async def test_cancel_retry_and_delete(web: Site, ok: dict[str, Any]) -> None:
    await web.call("POST", JOBS, json={**ok, "key": "a"})
    assert (await web.call("POST", f"{JOBS}/a/retry"))[0] == 409
    status, body, _ = await web.call("POST", f"{JOBS}/a/cancel", json={"reason": "wrong customer"})
    assert (status, body["state"], body["error"]) == (200, "cancelled", "wrong customer")
    assert (await web.call("POST", f"{JOBS}/a/cancel"))[0] == 409
    status, body, _ = await web.call("POST", f"{JOBS}/a/retry")
    assert (status, body["state"], body["attempt"]) == (200, "waiting", 0)
    assert (await web.call("DELETE", f"{JOBS}/a"))[:2] == (204, "")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("POST", "/cancel"),
        ("POST", "/promote"),
    ):
        assert (await web.call(method, f"{JOBS}/a{path}"))[0] == 404


async def test_a_running_job_is_cancelled_and_not_deleted(web: Site) -> None:
    await web.work()
    key = await web.harness.add("email", "greet", name="Ada", seconds=30)

    async def active() -> bool:
        return bool((await web.get(f"{JOBS}/{key}"))["state"] == "active")

    await wait_until(active)
    assert (await web.call("DELETE", f"{JOBS}/{key}"))[0] == 409
    assert (await web.call("POST", f"{JOBS}/{key}/cancel"))[0] == 200
    assert (await web.harness.finished("email", key)).state == "cancelled"


async def test_pages_follow_each_other(web: Site) -> None:
    await web.harness.control.enqueue("email", [NewJob("greet", {"name": f"n{n}"}, key=f"k{n}") for n in range(5)])
    first = await web.get(f"{JOBS}?state=waiting&limit=2")
    assert [job["key"] for job in first["jobs"]] == ["k0", "k1"]
    second = await web.get(f"{JOBS}?state=waiting&limit=3&cursor={first['cursor']}")
    assert ([job["key"] for job in second["jobs"]], second["cursor"]) == (["k2", "k3", "k4"], None)
    found = await web.get(f"{JOBS}?search=n3")
    assert [job["key"] for job in found["jobs"]] == ["k3"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "state=done", "cursor=x", "cursor=waiting:-1", "page=2", "state="]
)
async def test_bad_queries_are_refused(web: Site, query: str) -> None:
    assert (await web.call("GET", f"{JOBS}?{query}"))[0] == 422


@pytest.mark.parametrize(
    "key", ["a/b", "a%2Fb", "a/retry", "ü ?#&", "%", "..x", "a\\b", "a+b", "a%20b", '"<script>']
)
async def test_foreign_keys_are_percent_encoded(web: Site, store_url: str, key: str) -> None:
    queue = RedisQueue.from_url(store_url, name="email")
    await queue.enqueue(Job("greet", key=key, kwargs={"name": "Ada"}))
    await queue.disconnect()
    one = f"{JOBS}/{quote(key, safe='')}"
    from yarl import URL

    async def call(method: str, path: str) -> tuple[int, str]:
        url = URL(web.url + path, encoded=True)
        async with web.session.request(method, url, headers=web.headers) as response:
            return response.status, await response.text()

    status, text = await call("GET", one)
    assert (status, json.loads(text)["key"]) == (200, key)
    assert json.loads((await call("POST", f"{one}/cancel"))[1])["state"] == "cancelled"
    assert json.loads((await call("POST", f"{one}/retry"))[1])["state"] == "waiting"
    assert (await call("DELETE", one))[0] == 204


async def test_head_answers_as_get_without_body(web: Site) -> None:
    for path in ("/health", "/metrics", "/api/v1/queues", JOBS, "/admin/queues"):
        status, body, headers = await web.call("HEAD", path)
        assert (status, body) == (200, "")
        assert int(headers["Content-Length"]) > 0
    assert (await web.call("HEAD", f"{JOBS}/nope"))[0] == 404


class Slow(Payload):
    """A payload that says where it was checked."""

    CHECK_IN_THREAD = True
    checked_in: ClassVar[list[int]] = []

    @model_validator(mode="after")
    def _note(self) -> Slow:
        self.checked_in.append(threading.get_ident())
        return self


async def test_a_payload_whose_check_takes_long_is_checked_outside_the_loop(web: Site) -> None:
    async def take(_: JobContext, payload: Slow) -> None:
        assert payload

    web.harness.handle_spec("email", JobSpec("slow", "email", take, Slow))
    Slow.checked_in.clear()
    await web.work()
    for body in ({"job": "slow"}, {"jobs": [{"job": "greet", "payload": {"name": "Ada"}}, {"job": "slow"}]}):
        answer = await web.expect(201, "POST", JOBS, json=body)
    key = answer["jobs"][1]["key"]
    await web.get(f"{JOBS}/{key}?wait=30s")
    assert len(Slow.checked_in) >= 3
    assert threading.get_ident() not in Slow.checked_in
    assert SendEmail.CHECK_IN_THREAD
    assert RunCampaign.CHECK_IN_THREAD


async def test_secrets_of_payloads_and_errors_are_masked_and_results_are_not(web: Site) -> None:
    failed = {
        "function": "greet",
        "status": "failed",
        "error": "refused: Bearer hidden1234",
        "result": {"token": "t"},
    }
    payload = {"name": "Ada", "password": "hidden", "deep": [{"cookie": "hidden"}], "note": "token=hidden"}
    document = json.dumps({**failed, "kwargs": payload})
    await web.harness.store.command("SET", "saq:job:email:k", document)
    await web.harness.store.command("ZADD", "crmd:q:email:failed", 1_700_000_000_000, "saq:job:email:k")
    job = await web.get("/api/v1/queues/email/jobs/k")
    [listed] = (await web.get("/api/v1/queues/email/jobs?state=failed"))["jobs"]
    for one in (job, listed):
        assert one["payload"] == {
            "name": "Ada",
            "password": "***",
            "deep": [{"cookie": "***"}],
            "note": "token=***",
        }
        assert (one["error"], one["result"]) == ("refused: Bearer ***", {"token": "t"})


LARGE = "'token=x password: " * 12_500
"""Some 250 KiB of JSON."""


async def test_a_page_of_large_jobs_ends_early_and_goes_on_behind(web: Site) -> None:
    small = [NewJob("greet", {"name": "Ada"}, key=f"s{number}") for number in range(30)]
    await web.harness.control.enqueue("email", small)
    for number in range(20):
        await web.harness.control.enqueue("email", [NewJob("greet", {"name": LARGE}, key=f"l{number}")])
    keys: list[str] = []
    query = "state=waiting&limit=200"
    while query:
        page = await web.get(f"{JOBS}?{query}")
        assert len(json.dumps(page)) < listing.MAX_PAGE_BYTES + 100_000
        keys += [job["key"] for job in page["jobs"]]
        query = page["cursor"] and f"state=waiting&limit=200&cursor={page['cursor']}"
    assert keys == [f"s{number}" for number in range(30)] + [f"l{number}" for number in range(20)]


async def test_a_search_among_large_jobs_goes_on_where_it_ended(
    web: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SCAN_MAX_BYTES", 600_000)
    for number in range(9):
        await web.harness.control.enqueue("email", [NewJob("greet", {"name": LARGE}, key=f"k{number}")])
    found: list[str] = []
    page = await web.get(f"{JOBS}?search=k")
    pages = 1
    found += [job["key"] for job in page["jobs"]]
    while page["cursor"]:
        page = await web.get(f"{JOBS}?search=k&cursor={page['cursor']}")
        pages += 1
        found += [job["key"] for job in page["jobs"]]
    assert found == [f"k{number}" for number in range(9)]
    assert pages >= 3
    assert await web.harness.control.matching("email", State.WAITING, "k") == found
