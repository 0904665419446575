"""Meta's webhook over real HTTP: verification, signatures, repeats, large events, and what is stored."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from crmd.config.tables import WhatsAppTable
from crmd.crm.inbound.routes import MAX_BYTES, PATH, SMALL_BYTES, parts
from crmd.engine.admin.views import State
from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Ack, AckKind
from crmd.http.peers import FAILURES
from tests.support.http import QUEUES, Site, site
from tests.support.meta import SECRET, event, raw, sender, signed, status, text_message
from tests.support.services import NUMBER_ID
from tests.support.store import StoreServer

TOKEN = "verify-token of the tests"
CONFIGURED = {"app_secret": SECRET, "verify_token": TOKEN, "phone_number_id": NUMBER_ID}


@pytest.fixture
async def hook(store_url: str) -> AsyncIterator[Site]:
    """A server that takes WhatsApp's events, and no worker."""
    async with site(store_url, whatsapp=CONFIGURED, queues=(*QUEUES, QueueSettings("webhook"))) as made:
        yield made


async def post(web: Site, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    given = signed(body) if headers is None else headers
    answered, text, _ = await web.call("POST", PATH, auth=False, data=io.BytesIO(body), headers=given)
    return answered, text


async def jobs(web: Site) -> list[Any]:
    """The stored events, in no order."""
    page = await web.harness.inspector.jobs("webhook", limit=200)
    return [view for view in page.jobs if view.job == "whatsapp_event"]


# Verification


async def verify(web: Site, **query: str) -> tuple[int, Any, Any]:
    asked = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "115", **query}
    return await web.call("GET", PATH, auth=False, params=asked)


async def test_meta_gets_its_challenge_back(hook: Site) -> None:
    answered, text, headers = await verify(hook, **{"hub.challenge": "1158201444"})
    assert (answered, text) == (200, "1158201444")
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "query",
    [
        {"hub.verify_token": "other"},
        {"hub.verify_token": ""},
        {"hub.mode": "unsubscribe"},
        {"hub.challenge": ""},
        {"hub.challenge": "x" * 513},
        {"hub.verify_token": "verify-token of the testß"},
    ],
)
async def test_others_do_not(hook: Site, query: dict[str, str]) -> None:
    answered, problem, _ = await verify(hook, **query)
    assert (answered, problem["status"]) == (403, 403)
    assert TOKEN not in json.dumps(problem)


async def test_a_browser_shows_no_challenge_as_a_page(hook: Site) -> None:
    _, _, headers = await verify(hook, **{"hub.challenge": "<script>alert(1)</script>"})
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_what_is_not_configured_is_said(web: Site) -> None:
    answered, problem, headers = await verify(web)
    assert (answered, headers["Retry-After"]) == (503, "60")
    assert "whatsapp.verify_token is not set" in problem["detail"]
    answered, problem = await post(web, raw(event(statuses=[])))
    assert answered == 503
    assert "whatsapp.app_secret is not set" in problem["detail"]


async def test_changed_secrets_hold_at_once(hook: Site) -> None:
    hook.parts.whatsapp = WhatsAppTable.model_validate({"app_secret": "another", "verify_token": "x"})
    body = raw(event(statuses=[]))
    assert (await post(hook, body))[0] == 401
    assert (await post(hook, body, signed(body, "another")))[0] == 200


# Signatures


async def test_a_signed_event_is_stored_as_a_job(hook: Site) -> None:
    told = event(statuses=[status("wamid.A", "read")], messages=[text_message("wamid.IN", "Grüße 👍")])
    assert await post(hook, raw(told)) == (200, "EVENT_RECEIVED")
    [job] = await jobs(hook)
    assert job.payload == told
    assert job.key.startswith("wa:")


async def test_neither_login_nor_site_nor_host_nor_type_matters(hook: Site) -> None:
    for number, headers in enumerate(
        (
            {"Host": "crm.example.com"},
            {"Origin": "https://example.com", "Sec-Fetch-Site": "cross-site"},
            {"Content-Type": "text/plain"},
            {"Authorization": "Basic bm86bm8="},
        )
    ):
        body = raw(event(statuses=[status(f"wamid.{number}")]))
        assert (await post(hook, body, {**signed(body), **headers}))[0] == 200
    assert len(await jobs(hook)) == 4


async def test_unsigned_and_wrongly_signed_events_are_refused(hook: Site) -> None:
    body = raw(event(statuses=[status("wamid.A")]))
    right = signed(body)["X-Hub-Signature-256"]
    wrong = (
        "",
        right[:-1],
        right.removeprefix("sha256="),
        right.upper(),
        "sha1=" + right[7:],
        "sha256=ß",
        f" {right}x",
    )
    for signature in wrong[:FAILURES]:
        answered, problem = await post(hook, body, {"X-Hub-Signature-256": signature} if signature else {})
        assert (answered, problem["status"]) == (401, 401), signature
        assert right[7:] not in json.dumps(problem)
    assert (await post(hook, body + b" ", signed(body)))[0] == 429, "the body is what was signed"
    assert await jobs(hook) == []


async def test_who_is_refused_too_often_is_slowed_down_and_meta_is_not(hook: Site) -> None:
    body = raw(event(statuses=[]))
    codes = [(await post(hook, body, signed(body, "guess")))[0] for _ in range(FAILURES + 2)]
    assert codes == [401] * FAILURES + [429] * 2
    assert (await post(hook, body))[0] == 200, "behind a proxy Meta may have the same address"
    assert 'crmd_auth_refused_total{reason="signature"} 5.0' in (await hook.call("GET", "/metrics"))[1]


# What is stored


async def test_a_repeat_makes_no_second_job(hook: Site) -> None:
    body = raw(event(statuses=[status("wamid.A")]))
    for _ in range(3):
        assert (await post(hook, body))[0] == 200
    [job] = await jobs(hook)
    scripts = hook.harness.inspector.queue("webhook")
    claimed = await scripts.claim("d:1", 1)
    [(job_id, document, _)] = claimed.jobs
    await scripts.settle([Ack(job_id, "d:1", AckKind.COMPLETE, document)])
    assert (await post(hook, body))[0] == 200
    [after] = await jobs(hook)
    assert (after.key, after.state) == (job.key, State.COMPLETED), "a job that is done is not begun again"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_event_is_refused(hook: Site, body: bytes) -> None:
    answered, problem = await post(hook, body)
    assert (answered, problem["status"]) == (400, 400)


async def test_an_event_without_entries_is_left_to_its_job(hook: Site) -> None:
    assert (await post(hook, b'{"object": "page"}'))[0] == 200
    [job] = await jobs(hook)
    assert job.payload == {"object": "page", "entry": None}


async def test_a_body_over_metas_limit_is_refused(hook: Site) -> None:
    body = b" " * (MAX_BYTES + 1)
    assert (await post(hook, body))[0] == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * 1024 * 1024

    try:
        async with hook.session.post(hook.url + PATH, data=chunks(), headers=signed(b"")) as response:
            assert response.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the server may close before all was sent


async def test_a_large_event_becomes_several_jobs_that_say_the_same(hook: Site) -> None:
    updates = [status(f"wamid.{n}", random.choice(("sent", "read")), note="ü" * 300) for n in range(1000)]
    written = [text_message(f"wamid.IN{n}", "hello " * 100, f"49151{n:07d}") for n in range(300)]
    told = event(
        statuses=updates, messages=written, contacts=[sender(f"49151{n:07d}", f"N{n}") for n in range(300)]
    )
    body = raw(told)
    assert len(body) > 4 * SMALL_BYTES
    began = time.process_time()
    assert (await post(hook, body))[0] == 200
    assert time.process_time() - began < 2.0
    assert (await post(hook, body))[0] == 200, "again"
    found = await jobs(hook)
    values = [change["value"] for job in found for entry in job.payload["entry"] for change in entry["changes"]]
    assert sorted(one["id"] for value in values for one in value.get("statuses", [])) == sorted(
        one["id"] for one in updates
    )
    for value in values:
        assert value["metadata"] == told["entry"][0]["changes"][0]["value"]["metadata"]
        assert {one["wa_id"] for one in value.get("contacts", [])} == {
            one["from"] for one in value.get("messages", [])
        }
    assert sum(len(value.get("messages", [])) for value in values) == 300
    assert max(len(json.dumps(job.payload)) for job in found) < 250_000


def test_small_changes_travel_together() -> None:
    one = event(statuses=[status("wamid.A", note="x" * 1000)])
    many = {"object": "x", "entry": one["entry"] * 500}
    found = parts(many, SMALL_BYTES * 10)
    assert 3 < len(found) < 10
    assert sum(len(part["entry"]) for part in found) == 500
    assert parts(many, SMALL_BYTES) == [many]


@pytest.mark.parametrize("entry", [[7] * 50_000, [{"changes": 7}], [{"changes": [7, {"value": 7}]}], 7, None])
def test_what_is_no_envelope_is_cut_without_a_fault(entry: Any) -> None:
    found = parts({"object": "x", "entry": entry}, SMALL_BYTES + 1)
    flat = [
        one for part in found for one in (part["entry"] if isinstance(part["entry"], list) else [part["entry"]])
    ]
    assert len(flat) == (len(entry) if isinstance(entry, list) and len(entry) > 1 else len(flat))


@pytest.mark.parametrize("wrong", [["x"], {"x": 1}, None])
@pytest.mark.parametrize("place", ["from", "wa_id", "field", "metadata", "contacts"])
async def test_a_large_event_with_a_field_of_a_wrong_type_is_taken(hook: Site, place: str, wrong: Any) -> None:
    """Such an event is cut before it is stored."""
    said = [{**text_message(f"wamid.{n}", "hello " * 40, f"49151{n:07d}"), "x": 1} for n in range(1000)]
    who: list[Any] = [sender(f"49151{n:07d}") for n in range(1000)]
    told = event(messages=said, contacts=who)
    change = told["entry"][0]["changes"][0]
    spoiled = {"wa_id": who[0], "field": change}
    at = change["value"] if place in ("metadata", "contacts") else spoiled.get(place, said[0])
    at[place] = wrong
    assert (await post(hook, raw(told)))[0] == 200


async def test_one_item_that_is_too_large_is_refused(hook: Site) -> None:
    answered, problem = await post(hook, raw(event(messages=[text_message("wamid.IN", "x" * 300_000)])))
    assert (answered, problem["status"]) == (413, 413)


async def test_many_at_once_are_each_stored_in_milliseconds(hook: Site) -> None:
    async def one(number: int) -> int:
        return (await post(hook, raw(event(statuses=[status(f"wamid.{number}")]))))[0]

    assert set(await asyncio.gather(*(one(number) for number in range(200)))) == {200}
    assert (await hook.harness.inspector.counts("webhook")).waiting == 200


async def test_without_the_store_meta_is_asked_to_come_again(own_store: StoreServer) -> None:
    async with site(own_store.url, whatsapp=CONFIGURED, queues=(QueueSettings("webhook"),)) as web:
        own_store.kill()
        answered, problem = await post(web, raw(event(statuses=[])))
        assert (answered, problem["status"]) == (503, 503)


# The number's rate


async def test_what_people_write_now_is_taken_out_of_the_numbers_rate(hook: Site) -> None:
    old = text_message("wamid.old", "hi", timestamp=str(int(time.time()) - 60))
    odd: list[Any] = [old, text_message("wamid.odd", "hi", timestamp=["x"]), "x", None]
    for event_of in (
        event(messages=odd),
        event(statuses=[status("wamid.9")]),
        event(messages=[text_message("wamid.8", "hi")], number_id="999"),
    ):
        assert (await post(hook, raw(event_of)))[0] == 200
    rate = f"crmd:whatsapp:{NUMBER_ID}:rate"
    assert await hook.harness.store.command("EXISTS", rate) == 0
    several = [text_message(f"wamid.{n}", "hi", sender=f"49151{n:07d}") for n in range(5)]
    assert (await post(hook, raw(event(messages=[*several, *odd]))))[0] == 200
    per_second = float(await hook.harness.store.command("HGET", rate, "received"))
    assert per_second == pytest.approx(0.5, abs=0.1), "of the last ten seconds"
