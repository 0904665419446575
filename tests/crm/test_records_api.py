"""Contacts and messages over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.messages.tables import Message, MessageEvent
from tests.support.http import Site, site, token_table

ADA, BOB = "+491701111111", "+491702222222"
AT = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
async def crowd(crm: Site) -> Site:
    """Two contacts; three messages, one of them of campaign 1 and with a history."""
    async with crm.parts.database.transaction() as s:
        rows = [ContactRow(ADA, "Ada", "ada@example.com", ["vip"], {"city": "Berlin"}), ContactRow(BOB)]
        await contacts.upsert(s, rows)
        await contacts.opt_out(s, BOB, AT)
        s.add(Campaign(id=1, name="spring", definition={}, status="running"))
        await s.flush()
        ada = await contacts.ensure(s, ADA)
        for number, (phone, status, campaign) in enumerate(
            [(ADA, "delivered", 1), (ADA, "failed", None), (BOB, "sent", None)], 1
        ):
            s.add(
                Message(
                    id=number,
                    direction="out",
                    phone=phone,
                    contact_id=ada.id if phone == ADA else None,
                    campaign_id=campaign,
                    job_queue="message",
                    job_key=f"m{number}",
                    job_enqueued_at=AT,
                    type="text",
                    text="hi",
                    status=status,
                    status_at=AT,
                    created_at=AT,
                )
            )
        await s.flush()
        for status in ("accepted", "delivered"):
            s.add(MessageEvent(message_id=1, status=status, at=AT))
    return crm


async def phones(web: Site, query: str) -> list[str]:
    return [one["phone"] for one in (await web.get(f"/api/v1/contacts{query}"))["contacts"]]


async def ids(web: Site, query: str) -> list[int]:
    return [one["id"] for one in (await web.get(f"/api/v1/messages{query}"))["messages"]]


async def test_a_contact_as_it_is(crowd: Site) -> None:
    [ada] = (await crowd.get("/api/v1/contacts?tag=vip"))["contacts"]
    assert ada == await crowd.get(f"/api/v1/contacts/{ada['id']}")
    assert ada.pop("created_at") == ada.pop("updated_at")
    assert ada == {
        "id": ada["id"],
        "phone": ADA,
        "name": "Ada",
        "email": "ada@example.com",
        "tags": ["vip"],
        "attributes": {"city": "Berlin"},
        "opted_out_at": None,
        "marketing_stopped_at": None,
        "last_inbound_at": None,
    }


async def test_contacts_by_what_is_asked(crowd: Site) -> None:
    assert await phones(crowd, "") == [ADA, BOB]
    assert await phones(crowd, "?opted_out=true") == [BOB]
    assert await phones(crowd, "?opted_out=false") == [ADA]
    assert await phones(crowd, "?search=EXAMPLE") == [ADA]
    assert await phones(crowd, f"?phone={BOB}") == [BOB], "a plus that was not encoded is a space"
    assert await phones(crowd, "?phone=%2B491702222222") == [BOB]
    assert await phones(crowd, "?phone=491702222222") == [BOB]
    assert await phones(crowd, "?tag=none") == []


async def test_messages_the_newest_first_by_what_is_asked(crowd: Site) -> None:
    assert await ids(crowd, "") == [3, 2, 1]
    assert await ids(crowd, "?status=failed") == [2]
    assert await ids(crowd, "?phone=491701111111") == [2, 1]
    assert await ids(crowd, "?campaign=1") == [1]
    assert await ids(crowd, "?direction=in") == []


async def test_a_message_with_its_history(crowd: Site) -> None:
    message = await crowd.get("/api/v1/messages/1")
    history = message.pop("history")
    at = "2026-01-31T12:00:00.123Z"
    assert history == [
        {"status": "accepted", "at": at, "error_code": None},
        {"status": "delivered", "at": at, "error_code": None},
    ]
    assert message == (await crowd.get("/api/v1/messages?campaign=1"))["messages"][0]
    assert (message["status_at"], message["created_at"]) == (at, at)
    assert message["job"] == {"queue": "message", "key": "m1"}


@pytest.mark.parametrize(("path", "name", "count"), [("contacts", "contacts", 2), ("messages", "messages", 3)])
async def test_pages_lead_to_the_end(crowd: Site, path: str, name: str, count: int) -> None:
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await crowd.get(f"/api/v1/{path}?limit=1" + (f"&cursor={cursor}" if cursor else ""))
        seen += [one["id"] for one in page[name]]
        cursor = page["cursor"]
    assert len(seen) == len(set(seen)) == count


async def test_what_is_wrong_is_told(crowd: Site) -> None:
    wrong = {
        "contacts?phone=abc": "phone: is not a phone number",
        "contacts?cursor=nope": "cursor: is not one that this list gave out",
        "contacts?limit=0": "limit",
        "contacts?tags=a": "tags: no such field here",
        "contacts?opted_out=maybe": "opted_out",
        "messages?status=gone": "status",
        "messages?campaign=x": "campaign",
        "messages?cursor=aWQ6eA": "cursor: is not one that this list gave out",
    }
    for path, reason in wrong.items():
        assert reason in (await crowd.expect(422, "GET", f"/api/v1/{path}"))["detail"]
    for path in (
        "contacts/999",
        "contacts/x",
        "contacts/-1",
        f"contacts/{'9' * 30}",
        "messages/999",
        "messages/x",
    ):
        assert (await crowd.call("GET", f"/api/v1/{path}"))[0] == 404, path


async def test_a_contact_is_forgotten_with_its_messages(crowd: Site) -> None:
    [ada] = (await crowd.get("/api/v1/contacts?tag=vip"))["contacts"]
    path = f"/api/v1/contacts/{ada['id']}"
    assert (await crowd.call("DELETE", path))[0] == 204
    assert (await crowd.call("DELETE", path))[0] == 404
    assert await phones(crowd, "") == [BOB]
    assert await ids(crowd, "") == [3]


async def test_scopes(crowd: Site, store_url: str) -> None:
    """Only who may operate may delete, and who is for one queue sees no contacts."""
    tokens = {
        "reader": token_table("reader-1", "read"),
        "narrow": token_table("narrow-1", "read", queues=("message",)),
    }
    async with site(store_url, auth={"tokens": tokens}, database=crowd.parts.database) as other:

        async def status(method: str, path: str, token: str | None) -> int:
            headers = {"Authorization": f"Bearer {token}-1"} if token else {}
            return (await other.call(method, f"/api/v1/{path}", auth=False, headers=headers))[0]

        for path in ("contacts", "contacts/1", "messages", "messages/1"):
            assert await status("GET", path, None) == 401
            assert await status("GET", path, "narrow") == 403
            assert await status("GET", path, "reader") == 200
        assert await status("DELETE", "contacts/1", "reader") == 403


async def test_without_the_database_it_says_so(web: Site) -> None:
    for method, path in (
        ("GET", "contacts"),
        ("GET", "contacts/1"),
        ("DELETE", "contacts/1"),
        ("GET", "messages"),
    ):
        answer: tuple[int, Any, Any] = await web.call(method, f"/api/v1/{path}")
        assert answer[0] == 503
        assert answer[1]["detail"] == "the records are not available: not opened yet"
    assert (await web.get("/health"))["status"] == "ok"
