"""Campaigns and their recipients: each once, what may follow what, and how far sending is."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from crmd.crm.campaigns import recipients as recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.campaigns.progress import Backpressure, CampaignProgress, SendProgress
from crmd.crm.campaigns.recipients import NewRecipient, once_of
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.contacts.tables import Contact, ContactTag
from crmd.crm.database.database import Database
from crmd.crm.messages.tables import Message
from crmd.errors import IllegalTransition
from tests.database.test_messages import outgoing
from tests.support.database import commit, fetch

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DEFINITION: dict[str, Any] = {
    "name": "spring",
    "content": {"text": {"body": "hi {{ name }} \u0000"}},
    "share": 0.5,
}


async def make(database: Database, name: str = "spring", count: int = 0) -> int:
    """A campaign with so many pending recipients."""
    async with database.transaction() as s:
        campaign = await campaigns.create_or_get(s, name, DEFINITION, "job-1")
        await recipients.add(s, campaign.id, [NewRecipient(f"+4915100{n:06}") for n in range(count)])
    return campaign.id


async def move(database: Database, campaign_id: int, *statuses: str) -> Campaign:
    """Moves the campaign from status to status."""
    async with database.transaction() as s:
        campaign = await campaigns.get(s, campaign_id, lock=True)
        assert campaign is not None
        for status in statuses:
            await campaigns.move(s, campaign, CampaignStatus(status), f"to {status}")
    return campaign


async def states(database: Database, campaign_id: int) -> list[str]:
    async with database.reading() as s:
        query = select(CampaignRecipient.state).where(CampaignRecipient.campaign_id == campaign_id)
        return list(await s.scalars(query.order_by(CampaignRecipient.id)))


async def ids(database: Database, campaign_id: int) -> list[int]:
    async with database.reading() as s:
        query = select(CampaignRecipient.id).where(CampaignRecipient.campaign_id == campaign_id)
        return list(await s.scalars(query.order_by(CampaignRecipient.id)))


async def sent(database: Database, campaign_id: int, *recipient_ids: int, status: str = "accepted") -> None:
    """Messages of these recipients, begun in this order."""
    async with database.transaction() as s:
        for recipient_id in recipient_ids:
            s.add(
                Message(
                    direction="out",
                    phone="+49151",
                    campaign_id=campaign_id,
                    recipient_id=recipient_id or None,
                    once=once_of(campaign_id, recipient_id),
                    type="text",
                    status=status,
                    status_at=NOW,
                )
            )
            await s.flush()


# The campaign


async def test_a_campaign_is_made_once_for_each_name(database: Database) -> None:
    first = await commit(database, campaigns.create_or_get, "spring", DEFINITION, "job-1")
    assert (first.status, first.progress, first.total, first.job_key) == (
        "running",
        CampaignProgress(),
        None,
        "job-1",
    )
    async with database.transaction() as s:
        again = await campaigns.create_or_get(s, "spring", {"other": 1}, "job-2")
        assert (again.id, again.job_key) == (first.id, "job-1")
        assert campaigns.is_same(again, DEFINITION)
        assert not campaigns.is_same(again, {**DEFINITION, "share": 0.6})
        assert (await campaigns.create_or_get(s, "autumn", DEFINITION, "job-3")).id != first.id


async def test_many_who_make_the_same_campaign_at_once_get_one(database: Database) -> None:
    async def make_one() -> int:
        return (await commit(database, campaigns.create_or_get, "spring", DEFINITION, "job")).id

    assert len(set(await asyncio.gather(*(make_one() for _ in range(10))))) == 1


ALLOWED = {
    ("running", "paused"),
    ("running", "cancelled"),
    ("running", "stopped"),
    ("running", "done"),
    ("paused", "running"),
    ("paused", "cancelled"),
    ("done", "paused"),
    ("done", "cancelled"),
}
WAYS = {
    "running": (),
    "paused": ("paused",),
    "cancelled": ("cancelled",),
    "stopped": ("stopped",),
    "done": ("done",),
}


async def test_which_status_may_follow_which(database: Database) -> None:
    for before, after in itertools.product(WAYS, WAYS):
        campaign_id = await make(database, f"{before} {after}")
        await move(database, campaign_id, *WAYS[before])
        if (before, after) in ALLOWED:
            moved = await move(database, campaign_id, after)
            assert (moved.status, moved.reason) == (after, f"to {after}")
            assert (moved.finished_at is not None) == (after in ("cancelled", "stopped", "done"))
        else:
            with pytest.raises(IllegalTransition, match=f"is {before}"):
                await move(database, campaign_id, after)


async def test_resuming_starts_a_new_round_and_watches_the_first_again(database: Database) -> None:
    campaign_id = await make(database)
    async with database.transaction() as s:
        campaign = await campaigns.get(s, campaign_id, lock=True)
        assert campaign is not None
        campaign.progress = CampaignProgress(7, canary_since=NOW, backpressure=Backpressure.first(NOW))
    moved = await move(database, campaign_id, "paused", "running")
    assert moved.progress == CampaignProgress(7, round=1)
    async with database.transaction() as s:
        campaign = await campaigns.get(s, campaign_id, lock=True)
        assert campaign is not None
        campaign.progress = replace(campaign.progress, canary_passed=True)
    moved = await move(database, campaign_id, "paused", "running")
    assert moved.progress == CampaignProgress(7, round=2, canary_passed=True)


async def test_whose_messages_may_be_sent(database: Database) -> None:
    made = {status: await make(database, status) for status in WAYS}
    for status, campaign_id in made.items():
        await move(database, campaign_id, *WAYS[status])
    asked = [
        outgoing(str(place), campaign_id=number)
        for place, number in enumerate([*made.values(), made["paused"], 999_999, None])
    ]
    members = await fetch(database, CampaignGate().members, asked)
    stopped = {member.campaign_id: member.stop for member in members.values() if member.stop}
    assert stopped == {made["paused"]: "paused", made["cancelled"]: "cancelled", made["stopped"]: "cancelled"}
    assert {member.campaign_id for member in members.values()} == set(made.values())


async def test_campaigns_are_listed_the_newest_first(database: Database) -> None:
    made = [await make(database, str(number)) for number in range(5)]
    await move(database, made[1], "paused")
    async with database.reading() as s:
        first = [campaign.id for campaign in await campaigns.page(s, None, 2)]
        second = [campaign.id for campaign in await campaigns.page(s, first[-1], 2)]
        paused = [campaign.id for campaign in await campaigns.page(s, None, 10, "paused")]
        assert await campaigns.get(s, 999_999) is None
    assert first + second == made[:0:-1]
    assert paused == [made[1]]


# The recipients


async def test_a_recipient_is_added_once_for_each_number(database: Database) -> None:
    campaign_id, other = await make(database), await make(database, "other")
    rows = [
        NewRecipient("+491", {"a": 1}),
        NewRecipient("+492"),
        NewRecipient("row 3", reason="phone: " + "x" * 500),
    ]
    async with database.transaction() as s:
        assert await recipients.add(s, campaign_id, rows) == 3
        assert await recipients.add(s, campaign_id, [NewRecipient("+491", {"a": 2}), NewRecipient("+493")]) == 1
        assert await recipients.add(s, campaign_id, [NewRecipient("+494"), NewRecipient("+494")]) == 1
        assert await recipients.add(s, other, rows) == 3
        assert await recipients.add(s, campaign_id, []) == 0
        found = await recipients.pending(s, campaign_id, 10)
    assert [(one.phone, one.variables) for one in found] == [
        ("+491", {"a": 1}),
        ("+492", {}),
        ("+493", {}),
        ("+494", {}),
    ]
    assert await fetch(database, recipients.counts, campaign_id) == {"pending": 4, "queued": 0, "skipped": 1}
    assert list(await fetch(database, recipients.skipped_reasons, campaign_id)) == [("phone: " + "x" * 500)[:200]]


async def test_many_recipients_are_added_at_once(database: Database) -> None:
    campaign_id = await make(database, count=1_500)
    assert len(await ids(database, campaign_id)) == 1_500


async def test_contacts_become_recipients_chunk_by_chunk(database: Database) -> None:
    async with database.transaction() as s:
        people = [Contact(phone=f"+49{n}", attributes={"vip": n % 2 == 0}) for n in range(10)]
        s.add_all(people)
        await s.flush()
        s.add_all(ContactTag(contact_id=person.id, tag="club") for person in people[:8])
    campaign_id = await make(database)
    wanted = matching(ContactFilter(tags=("club",), attributes={"vip": True}))
    last: int | None = 0
    rounds = 0
    while last is not None:
        async with database.transaction() as s:
            last = await recipients.add_contacts(s, campaign_id, wanted, last, 3)
            rounds += 1
    assert rounds == 3
    async with database.transaction() as s:
        assert await recipients.add_contacts(s, campaign_id, wanted, 0, 100) == people[6].id, (
            "there already: no error"
        )
        found = await recipients.pending(s, campaign_id, 10)
    assert [one.phone for one in found] == ["+490", "+492", "+494", "+496"]
    assert [one.contact.id for one in found if one.contact] == [people[n].id for n in (0, 2, 4, 6)]
    assert {one.tags for one in found} == {("club",)}


async def test_a_page_knows_the_contacts_by_their_numbers(database: Database) -> None:
    campaign_id = await make(database)
    async with database.transaction() as s:
        await recipients.add(s, campaign_id, [NewRecipient("+491"), NewRecipient("+492")])
        contact = Contact(phone="+491", name="Bob", attributes={"city": "Rome"})
        s.add(contact)
        await s.flush()
        s.add_all([ContactTag(contact_id=contact.id, tag=tag) for tag in ("b", "a")])
    first, second = await fetch(database, recipients.pending, campaign_id, 10)
    assert len(await fetch(database, recipients.pending, campaign_id, 1)) == 1
    assert first.contact is not None
    assert (first.contact.name, first.tags, second.contact, second.tags) == ("Bob", ("a", "b"), None, ())


async def test_what_was_queued_or_skipped_is_pending_no_more(database: Database) -> None:
    campaign_id = await make(database, count=6)
    numbers = await ids(database, campaign_id)
    async with database.transaction() as s:
        await recipients.mark_queued(s, numbers[:2])
        await recipients.mark_skipped(s, {numbers[2]: "no name", numbers[3]: "no name", numbers[4]: "opted out"})
        await recipients.mark_skipped(s, {numbers[0]: "too late"})
        await recipients.mark_queued(s, numbers[2:3])
        await recipients.mark_queued(s, [])
    assert await states(database, campaign_id) == ["queued"] * 2 + ["skipped"] * 3 + ["pending"]
    assert await fetch(database, recipients.counts, campaign_id) == {"pending": 1, "queued": 2, "skipped": 3}
    assert await fetch(database, recipients.skipped_reasons, campaign_id) == {"no name": 2, "opted out": 1}
    assert [one.id for one in await fetch(database, recipients.pending, campaign_id, 10)] == numbers[5:]


async def test_a_message_is_taken_back_only_while_its_campaign_is_paused(database: Database) -> None:
    campaign_id, other = await make(database, count=3), await make(database, "other", count=1)
    numbers, [stranger] = await ids(database, campaign_id), await ids(database, other)
    await commit(database, recipients.mark_queued, [*numbers[:2], stranger])
    assert await commit(database, recipients.suspend, numbers) == set()
    await move(database, campaign_id, "paused")
    assert await commit(database, recipients.suspend, [*numbers, stranger, 999_999]) == set(numbers)
    assert await states(database, campaign_id) == ["pending"] * 3
    assert await states(database, other) == ["queued"]


async def test_the_front_is_behind_the_last_recipient_whose_message_began(database: Database) -> None:
    campaign_id = await make(database, count=10)
    numbers = await ids(database, campaign_id)
    assert await fetch(database, recipients.send_progress, campaign_id) == SendProgress(0, 0, 0)
    await commit(database, recipients.mark_queued, numbers[:8])
    assert (await fetch(database, recipients.send_progress, campaign_id)).ahead == 8
    await sent(database, campaign_id, numbers[0], numbers[3], numbers[1])
    front = await fetch(database, recipients.send_progress, campaign_id)
    assert (front.ahead, front.begun) == (4, 3), (
        "numbers 2 was cancelled, or is tried again later: it is not ahead"
    )
    await sent(database, campaign_id, numbers[4])
    later = await fetch(database, recipients.send_progress, campaign_id, front.message_id)
    assert (later.ahead, later.begun) == (3, 1)
    assert later.message_id > front.message_id


async def test_messages_that_a_campaign_did_not_queue_are_no_part_of_its_progress(database: Database) -> None:
    campaign_id = await make(database, count=2)
    await commit(database, recipients.mark_queued, await ids(database, campaign_id))
    await sent(database, campaign_id, 0)
    for once in (None, "my own"):
        async with database.transaction() as s:
            await s.execute(update(Message).values(once=once))
        assert (await fetch(database, recipients.send_progress, campaign_id)).ahead == 2
