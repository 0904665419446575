"""Messages of campaigns that do not go on: which begin all the same, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from crmd.crm.campaigns import recipients as recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.campaigns.recipients import NewRecipient, once_of
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.database import Database
from crmd.crm.messages.begin import Admission, begin_many
from crmd.crm.messages.queries import Status
from crmd.crm.messages.tables import Message
from tests.database.test_messages import NOW, outgoing, put, row
from tests.support.database import commit, fetch


@pytest.fixture
async def campaign(database: Database) -> Campaign:
    """A campaign with three recipients, all queued."""
    async with database.transaction() as s:
        made = await campaigns.create_or_get(s, "spring", {}, "job")
        await recipients.add(s, made.id, [NewRecipient(phone_of(n)) for n in (1, 2, 3)])
        await recipients.mark_queued(s, [one.id for one in await recipients.pending(s, made.id, 10)])
    return made


def phone_of(recipient: int) -> str:
    return f"+4915{recipient}"


async def move(database: Database, campaign: Campaign, *statuses: str) -> None:
    async with database.transaction() as s:
        found = await campaigns.get(s, campaign.id, lock=True)
        assert found is not None
        for status in statuses:
            await campaigns.move(s, found, CampaignStatus(status))


async def admissions(database: Database, *new: Any) -> list[Admission]:
    return [begun.admission for begun in await commit(database, begin_many, CampaignGate(), new, NOW)]


async def pending(database: Database, campaign: Campaign) -> list[int]:
    return [one.id for one in await fetch(database, recipients.pending, campaign.id, 10)]


def message(campaign: Campaign, recipient: int, key: str | None = None, **changes: Any) -> Any:
    word = once_of(campaign.id, recipient)
    own = {"phone": phone_of(recipient), "once": word, "campaign_id": campaign.id}
    return outgoing(key or word, **{**own, **changes})


async def test_messages_of_a_running_or_done_campaign_begin(database: Database, campaign: Campaign) -> None:
    assert await admissions(database, message(campaign, 1)) == [Admission.SEND]
    await move(database, campaign, "done")
    assert await admissions(database, message(campaign, 2)) == [Admission.SEND]


async def test_messages_of_a_paused_campaign_are_given_back(database: Database, campaign: Campaign) -> None:
    await move(database, campaign, "paused")
    others = [
        outgoing("a"),
        outgoing("b", once="mine", campaign_id=campaign.id),
        outgoing("c", campaign_id=campaign.id),
        message(campaign, 2, "d", once="mine too"),
        message(campaign, 2, "e", phone="+4917"),
    ]
    assert await admissions(database, message(campaign, 1), *others, message(campaign, 3)) == [
        Admission.HELD,
        Admission.SEND,
        *[Admission.PAUSED] * 4,
        Admission.HELD,
    ]
    assert await pending(database, campaign) == [1, 3]


@pytest.mark.parametrize("status", ["cancelled", "stopped"])
async def test_messages_of_a_campaign_that_is_over_never_begin(
    database: Database, campaign: Campaign, status: str
) -> None:
    await move(database, campaign, status)
    assert await admissions(
        database, message(campaign, 1), outgoing("a"), outgoing("c", campaign_id=campaign.id)
    ) == [
        Admission.CANCELLED,
        Admission.SEND,
        Admission.CANCELLED,
    ]
    assert await pending(database, campaign) == []


EARLIER = {
    Status.RETRYING: (Admission.HELD, Admission.CANCELLED),
    Status.FAILED: (Admission.HELD, Admission.CANCELLED),
    Status.SENDING: (Admission.UNKNOWN, Admission.UNKNOWN),
    Status.UNKNOWN: (Admission.UNKNOWN, Admission.UNKNOWN),
    Status.ACCEPTED: (Admission.REPEAT, Admission.REPEAT),
    Status.READ: (Admission.REPEAT, Admission.REPEAT),
}


async def test_what_an_earlier_run_did_is_told_first(database: Database, campaign: Campaign) -> None:
    rows = {}
    for number, status in enumerate(EARLIER, 1):
        word = once_of(campaign.id, number)
        own = {"phone": phone_of(number), "once": word, "campaign_id": campaign.id}
        rows[status] = await put(database, status, key=word, **own)
    again = [message(campaign, number) for number in range(1, len(EARLIER) + 1)]
    await move(database, campaign, "paused")
    paused = dict(zip(EARLIER, await admissions(database, *again), strict=True))
    assert paused == {status: expected for status, (expected, _) in EARLIER.items()}
    assert await pending(database, campaign) == [1, 2], "those that were held"
    await move(database, campaign, "cancelled")
    cancelled = dict(zip(EARLIER, await admissions(database, *again), strict=True))
    assert cancelled == {status: expected for status, (_, expected) in EARLIER.items()}
    retried = await row(database, rows[Status.RETRYING])
    assert (retried.status, retried.error_code) == ("failed", "campaign_cancelled")


async def test_what_was_held_is_sent_by_a_job_of_the_next_round(database: Database, campaign: Campaign) -> None:
    await move(database, campaign, "paused")
    assert await admissions(database, message(campaign, 1)) == [Admission.HELD]
    await move(database, campaign, "running")
    key = recipients.key_of(campaign.id, 1, 1)
    assert await admissions(database, message(campaign, 1, key)) == [Admission.SEND]
    assert await admissions(database, message(campaign, 1)) == [Admission.BUSY], "the job of the round before"


async def test_unsent_are_those_queued_without_a_message(database: Database, campaign: Campaign) -> None:
    assert await fetch(database, recipients.unsent, campaign.id, 0, 10) == [1, 2, 3]
    await admissions(database, message(campaign, 2))
    async with database.transaction() as s:
        assert await recipients.unsent(s, campaign.id, 0, 10) == [1, 3]
        assert await recipients.unsent(s, campaign.id, 1, 10) == [3]
        assert await recipients.unsent(s, campaign.id, 0, 1) == [1]
        await recipients.take_back(s, [1])
        assert await recipients.unsent(s, campaign.id, 0, 10) == [3]
    assert await pending(database, campaign) == [1]


async def test_a_row_names_the_recipient_and_only_where_the_message_is_its(
    database: Database, campaign: Campaign
) -> None:
    other = message(campaign, 2, "b", once="mine")
    stranger = message(campaign, 3, "c", phone="+4917")
    gone = message(campaign, 3, "d", once=once_of(999, 3), campaign_id=999)
    assert await admissions(database, message(campaign, 1), other, stranger, gone) == [Admission.SEND] * 4
    async with database.reading() as s:
        rows = await s.execute(select(Message.job_key, Message.campaign_id, Message.recipient_id))
    assert {key: rest for key, *rest in rows} == {
        once_of(campaign.id, 1): [campaign.id, 1],
        "b": [campaign.id, None],
        "c": [campaign.id, None],
        "d": [None, None],
    }
