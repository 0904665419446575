"""The rows of messages: who may send, what became of it, and who asks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.features import forgetting
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Admission, MessageStart, Outgoing, begin, begin_many
from crmd.crm.messages.queries import MessageFilter, Status
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.tables import Message, MessageEvent
from crmd.errors import IllegalTransition
from tests.support.database import commit, fetch

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PHONE = "+4915112345678"


def outgoing(key: str = "job-1", **changes: Any) -> Outgoing:
    fields: dict[str, Any] = {"phone": PHONE, "type": "text", "text": "hello", "job_queue": "message"}
    return Outgoing(**{**fields, "job_key": key, "job_enqueued_at": NOW, **changes})


async def begun(database: Database, new: Outgoing | None = None) -> MessageStart:
    return await commit(database, begin, CampaignGate(), new or outgoing(), NOW)


async def row(database: Database, message_id: int) -> Message:
    async with database.reading() as s:
        return await s.get_one(Message, message_id)


async def steps(database: Database, message_id: int) -> list[str]:
    return [event.status for event in await fetch(database, messages.history, message_id)]


async def put(database: Database, status: Status, **changes: Any) -> int:
    """A message that stands so."""
    async with database.transaction() as s:
        first = await begin(s, CampaignGate(), outgoing(**changes), NOW)
        message = await s.get_one(Message, first.message_id)
        message.status = status.value
        if status in (Status.ACCEPTED, Status.SENT, Status.DELIVERED, Status.READ):
            message.wamid = f"wamid.{first.message_id}"
    return first.message_id


async def test_a_new_message_is_sent(database: Database) -> None:
    first = await begun(database)
    assert (first.admission, first.status) == (Admission.SEND, Status.SENDING)
    message = await row(database, first.message_id)
    assert (message.direction, message.phone, message.type, message.text) == ("out", PHONE, "text", "hello")
    assert (message.job_queue, message.job_key, message.job_enqueued_at) == ("message", "job-1", NOW)
    assert (message.contact_id, message.campaign_id, message.wamid) == (None, None, None)
    assert await steps(database, first.message_id) == ["sending"]


async def test_it_belongs_to_its_contact_and_campaign(database: Database) -> None:
    async with database.transaction() as s:
        contact = await contacts.ensure(s, PHONE)
        campaign = Campaign(name="spring", definition={}, status="running")
        s.add(campaign)
    message = await row(database, (await begun(database, outgoing(campaign_id=campaign.id))).message_id)
    assert (message.contact_id, message.campaign_id) == (contact.id, campaign.id)


async def test_a_campaign_that_is_gone_is_left_out(database: Database) -> None:
    first = await begun(database, outgoing(campaign_id=4711))
    assert first.admission is Admission.SEND
    assert (await row(database, first.message_id)).campaign_id is None


async def test_a_contact_that_opted_out_gets_nothing(database: Database) -> None:
    await commit(database, contacts.opt_out, PHONE, NOW)
    first = await begun(database)
    assert (first.admission, first.status) == (Admission.OPTED_OUT, Status.FAILED)
    assert (await row(database, first.message_id)).error_code == "opted_out"
    assert await steps(database, first.message_id) == ["failed"]
    await commit(database, contacts.opt_in, PHONE)
    assert (await begun(database)).admission is Admission.SEND
    assert (await row(database, first.message_id)).error_code is None


async def test_what_was_sent_is_not_sent_again(database: Database) -> None:
    for status in (Status.ACCEPTED, Status.SENT, Status.DELIVERED, Status.READ):
        for once in (None, f"campaign:1:{status}"):
            new = outgoing(f"{status}-{once}", once=once)
            message_id = await put(database, status, key=new.job_key, once=once)
            repeat = MessageStart(message_id, Admission.REPEAT, status, f"wamid.{message_id}")
            assert await begun(database, new) == repeat


@pytest.mark.parametrize("status", [Status.SENDING, Status.RETRYING, Status.ACCEPTED])
async def test_a_word_that_was_used_for_somebody_else_sends_nothing(database: Database, status: Status) -> None:
    message_id = await put(database, status, key="a", once="word")
    other = await begun(database, outgoing("b", once="word", phone="+4915187654321"))
    assert (other.message_id, other.admission, other.phone) == (message_id, Admission.OTHER_RECIPIENT, PHONE)
    assert (await row(database, message_id)).status == status


async def test_a_word_for_two_recipients_at_once_sends_one_message(database: Database) -> None:
    two = [outgoing("a", once="word"), outgoing("b", once="word", phone="+4915187654321")]
    admissions = [one.admission for one in await commit(database, begin_many, CampaignGate(), two, NOW)]
    assert admissions == [Admission.SEND, Admission.OTHER_RECIPIENT]


async def test_what_an_earlier_delivery_may_have_sent_is_unknown(database: Database) -> None:
    for status in (Status.SENDING, Status.UNKNOWN):
        message_id = await put(database, status, key=status)
        unknown = MessageStart(message_id, Admission.UNKNOWN, Status.UNKNOWN)
        assert await begun(database, outgoing(status)) == unknown
        assert (await row(database, message_id)).status == "unknown"


async def test_what_did_not_go_out_may_be_sent(database: Database) -> None:
    for status in (Status.RETRYING, Status.FAILED):
        message_id = await put(database, status, key=status)
        assert await begun(database, outgoing(status)) == MessageStart(message_id, Admission.SEND, Status.SENDING)
        assert (await row(database, message_id)).status == "sending"


async def test_a_key_that_is_used_again_is_another_message(database: Database) -> None:
    first = await put(database, Status.ACCEPTED)
    second = await begun(database, outgoing(job_enqueued_at=NOW + timedelta(milliseconds=1)))
    assert second.admission is Admission.SEND
    assert second.message_id != first


async def test_under_once_another_job_finds_the_message(database: Database) -> None:
    message_id = await put(database, Status.SENDING, once="o")
    other = outgoing("job-2", once="o")
    assert (await begun(database, other)).admission is Admission.BUSY, "job-1 is at it"
    same_key = outgoing(once="o", job_enqueued_at=NOW + timedelta(hours=1))
    assert (await begun(database, same_key)).admission is Admission.UNKNOWN, "job-1 is over, as its key was free"
    assert (await begun(database, other)).admission is Admission.UNKNOWN
    await commit(database, messages.settle_by_hand, message_id, "failed", NOW)
    assert (await begun(database, other)).admission is Admission.SEND
    assert (await row(database, message_id)).job_key == "job-2"


async def test_of_two_jobs_at_the_same_moment_one_sends(database: Database) -> None:
    async def one(key: str) -> Admission:
        return (await begun(database, outgoing(key, once="o"))).admission

    admissions = await asyncio.gather(*(one(f"job-{n}") for n in range(5)))
    assert sorted(admissions) == [Admission.BUSY] * 4 + [Admission.SEND]


async def test_many_at_once_are_told_apart(database: Database) -> None:
    await put(database, Status.ACCEPTED, key="old")
    async with database.transaction() as s:
        await contacts.opt_out(s, "+491", NOW)
        new = [
            outgoing("a", once="x"),
            outgoing("b", once="x"),
            outgoing("old"),
            outgoing("c", phone="+491"),
            outgoing("d", campaign_id=1),
        ]
        found = await begin_many(s, CampaignGate(), new, NOW)
    assert [one.admission for one in found] == [
        Admission.SEND,
        Admission.BUSY,
        Admission.REPEAT,
        Admission.OPTED_OUT,
        Admission.SEND,
    ]
    assert len({one.message_id for one in found}) == 4


async def test_the_book_gathers_what_comes_together(database: Database) -> None:
    repository = MessageRepository(database, CampaignGate())
    found = await asyncio.gather(*(repository.begin(outgoing(f"job-{n}")) for n in range(250)))
    assert {one.admission for one in found} == {Admission.SEND}
    await asyncio.gather(*(repository.accepted(one.message_id, f"w{one.message_id}") for one in found))
    rows = await fetch(database, messages.page, MessageFilter(status=Status.ACCEPTED), None, 1000)
    assert {message.id: message.wamid for message in rows} == {
        one.message_id: f"w{one.message_id}" for one in found
    }
    assert {message.job_key for message in rows} == {f"job-{n}" for n in range(250)}


async def test_one_that_cannot_be_written_does_not_keep_out_the_others(database: Database) -> None:
    repository = MessageRepository(database, CampaignGate())
    bad = outgoing("bad", job_enqueued_at=NOW.replace(tzinfo=None))
    calls = [repository.begin(outgoing("a")), repository.begin(bad), repository.begin(outgoing("b"))]
    first, error, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, MessageStart)
    assert isinstance(last, MessageStart)
    assert isinstance(error, Exception)


async def test_a_caller_that_is_cancelled_before_its_turn_writes_nothing(database: Database) -> None:
    repository = MessageRepository(database, CampaignGate())
    async with database.transaction() if database.is_sqlite else database.reading():
        waiting = asyncio.create_task(repository.begin(outgoing()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (await repository.begin(outgoing())).admission is Admission.SEND


# Outcomes


async def test_a_message_that_was_forgotten_while_it_was_sent_is_no_error(database: Database) -> None:
    """Nor does it keep others, which are written with it, from being noted."""
    repository = MessageRepository(database, CampaignGate())
    contact = await commit(database, contacts.ensure, PHONE)
    gone, kept = await begun(database), await begun(database, outgoing("job-2", phone="+4915112345679"))
    assert await commit(database, contacts.forget, contact.id, forgetting())
    ids = gone.message_id, kept.message_id
    await asyncio.gather(*(repository.accepted(message_id, f"wamid.{message_id}") for message_id in ids))
    assert (await row(database, kept.message_id)).status == "accepted"
    assert sorted(await steps(database, kept.message_id)) == ["accepted", "sending"]
    assert await steps(database, gone.message_id) == []


async def test_accepted_gives_it_its_wamid(database: Database) -> None:
    first = await begun(database)
    await commit(database, messages.accepted, first.message_id, "wamid.A", NOW)
    message = await row(database, first.message_id)
    assert (message.status, message.wamid) == ("accepted", "wamid.A")
    assert await steps(database, first.message_id) == ["accepted", "sending"]


async def test_a_status_that_was_faster_than_the_answer_stands(database: Database) -> None:
    for status in (Status.SENT, Status.DELIVERED, Status.READ, Status.FAILED):
        message_id, wamid = await put(database, status, key=status), f"wamid.{status}"
        async with database.transaction() as s:
            (await s.get_one(Message, message_id)).wamid = wamid
        await commit(database, messages.accepted, message_id, wamid, NOW)
        message = await row(database, message_id)
        assert (message.status, message.wamid) == (status, wamid)


async def test_a_wamid_that_another_message_has_does_not_stop_the_outcome(database: Database) -> None:
    await put(database, Status.ACCEPTED)
    second = await begun(database, outgoing("job-2"))
    await commit(database, messages.accepted, second.message_id, f"wamid.{second.message_id - 1}", NOW)
    message = await row(database, second.message_id)
    assert (message.status, message.wamid) == ("accepted", None)


async def test_what_is_known_is_not_overwritten(database: Database) -> None:
    for before, moves in (
        (Status.SENDING, {"failed", "retrying", "unknown"}),
        (Status.RETRYING, {"failed"}),
        (Status.UNKNOWN, {"failed"}),
        (Status.ACCEPTED, set()),
        (Status.SENT, set()),
        (Status.READ, set()),
    ):
        for to in ("failed", "retrying", "unknown"):
            message_id = await put(database, before, key=f"{before}-{to}")
            async with database.transaction() as s:
                if to == "unknown":
                    moved = await messages.unknown(s, message_id, "no answer", NOW)
                else:
                    moved = await getattr(messages, to)(s, message_id, "131026", "undeliverable", NOW)
            assert moved == (to in moves), (before, to)
            assert (await row(database, message_id)).status == (to if moved else before)


async def test_errors_are_kept_with_code_and_history(database: Database) -> None:
    first = await begun(database)
    async with database.transaction() as s:
        await messages.failed(s, first.message_id, "131026", "undeliverable " * 500, NOW)
        [event] = [one for one in await messages.history(s, first.message_id) if one.status == "failed"]
    message = await row(database, first.message_id)
    assert (message.error_code, event.error_code) == ("131026", "131026")
    assert len(message.error or "") == 2000


async def test_a_person_settles_what_is_unknown(database: Database) -> None:
    for status in ("sent", "failed"):
        message_id = await put(database, Status.UNKNOWN, key=status)
        assert await commit(database, messages.settle_by_hand, message_id, status, NOW) is not None
        assert (await row(database, message_id)).status == status
        async with database.transaction() as s:
            with pytest.raises(IllegalTransition, match="only unknown messages"):
                await messages.settle_by_hand(s, message_id, "sent", NOW)
    assert await commit(database, messages.settle_by_hand, 4711, "sent", NOW) is None


# Inbound, and questions


async def test_an_inbound_message_is_written_down_once(database: Database) -> None:
    for expected in (True, False):
        async with database.transaction() as s:
            contact = await contacts.ensure(s, PHONE)
            written = await messages.record_inbound(
                s, contact, wamid="wamid.IN", type="text", text="hi", at=NOW, now=NOW
            )
        assert (written is not None) == expected
    async with database.reading() as s:
        found = await messages.by_wamid(s, "wamid.IN")
        contact = await s.get_one(Contact, contact.id)
    assert found is not None
    assert (found.direction, found.status, found.contact_id, found.text) == ("in", "received", contact.id, "hi")
    assert contact.last_inbound_at == NOW


async def test_the_last_inbound_time_never_goes_back(database: Database) -> None:
    for number, at in enumerate((NOW, NOW - timedelta(hours=1))):
        async with database.transaction() as s:
            contact = await contacts.ensure(s, PHONE)
            await messages.record_inbound(
                s, contact, wamid=f"wamid.{number}", type="text", text=None, at=at, now=NOW
            )
    found = await fetch(database, contacts.by_phone, PHONE)
    assert found is not None
    assert found.last_inbound_at == NOW


async def test_a_campaigns_messages_are_counted(database: Database) -> None:
    async with database.transaction() as s:
        campaign = Campaign(name="spring", definition={}, status="running")
        s.add(campaign)
    for number, status in enumerate((Status.READ, Status.READ, Status.FAILED)):
        await put(database, status, key=f"job-{number}", campaign_id=campaign.id)
    await put(database, Status.READ, key="other")
    assert await fetch(database, messages.campaign_counts, campaign.id) == {"read": 2, "failed": 1}
    assert await fetch(database, messages.campaign_counts, campaign.id + 1) == {}


async def test_pages_follow_the_ids_in_both_directions(database: Database) -> None:
    ids = [await put(database, Status.READ, key=f"job-{n}", phone=f"+49{n % 2}") for n in range(5)]
    everything = MessageFilter()
    async with database.reading() as s:

        async def page(*asked: Any, **options: Any) -> list[int]:
            return [one.id for one in await messages.page(s, *asked, **options)]

        assert await page(everything, None, 2) == ids[:2]
        assert await page(everything, ids[1], 10) == ids[2:]
        assert await page(everything, None, 2, newest_first=True) == ids[:2:-1]
        assert await page(everything, ids[3], 10, newest_first=True) == ids[2::-1]
        assert await page(MessageFilter(phone="+491"), None, 10) == ids[1::2]
        assert await page(MessageFilter(status=Status.SENT), None, 10) == []
        assert await page(MessageFilter(created_after=NOW), None, 10) == ids
        assert await page(MessageFilter(created_before=NOW), None, 10) == []


async def test_doubtful_are_those_that_stand_open_for_long(database: Database) -> None:
    ids = {status: await put(database, status, key=status) for status in Status if status is not Status.RECEIVED}
    async with database.reading() as s:
        found = [one.id for one in await messages.doubtful(s, NOW + timedelta(seconds=1), 0, 10)]
        assert sorted(found) == sorted([ids[Status.SENDING], ids[Status.RETRYING]])
        assert await messages.doubtful(s, NOW, 0, 10) == []
        assert [one.id for one in await messages.doubtful(s, NOW + timedelta(seconds=1), found[0], 10)] == found[
            1:
        ]
        assert [one.id for one in await messages.of_jobs(s, "message", ["sent", "nobody"])] == [ids[Status.SENT]]


async def test_history_has_each_step_once(database: Database) -> None:
    first = await begun(database)
    for _ in range(3):
        await commit(database, messages.retrying, first.message_id, "2", "service down", NOW)
        await begun(database)
    async with database.reading() as s:
        found: list[MessageEvent] = await messages.history(s, first.message_id)
    assert [event.status for event in found] == ["retrying", "sending"]
