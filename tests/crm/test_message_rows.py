"""`send_message` and the database: what is written before and after, and what is therefore not sent twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Outgoing
from crmd.crm.messages.jobs import MessageSent, send_message
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.tables import Message
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.errors import IllegalTransition, JobSignal, OutcomeUnknown, Permanent, Retry, Snooze
from tests.support.context import RecordedRun, make_context
from tests.support.database import commit, fetch
from tests.support.raised import raised
from tests.support.services import WhatsAppServer
from tests.support.wait import cancel_once, wait_until

PHONE = "+4915112345678"
TEXT: dict[str, Any] = {"to": PHONE, "text": "hello"}


class Desk:
    """Sends, and looks at the database."""

    def __init__(
        self, database: Database, repository: MessageRepository, whatsapp: WhatsAppClient, server: WhatsAppServer
    ) -> None:
        self.database = database
        self.repository = repository
        self.whatsapp = whatsapp
        self.server = server

    async def send(self, payload: dict[str, Any] | None = None, **context: Any) -> MessageSent:
        ctx = make_context(self.repository, self.whatsapp, **context)
        return await send_message(ctx, SendMessage.model_validate({**TEXT, **(payload or {})}))

    async def rows(self) -> list[Message]:
        return await fetch(self.database, messages.page, messages.MessageFilter(), None, 100)

    async def row(self) -> Message:
        [row] = await self.rows()
        return row

    async def steps(self) -> set[str]:
        return {event.status for event in await fetch(self.database, messages.history, (await self.row()).id)}


@pytest.fixture
def desk(
    sqlite_database: Database, repository: MessageRepository, whatsapp: WhatsAppClient, server: WhatsAppServer
) -> Desk:
    return Desk(sqlite_database, repository, whatsapp, server)


async def test_a_sent_message_is_in_the_database(desk: Desk) -> None:
    contact = await commit(desk.database, contacts.ensure, PHONE)
    await desk.send(key="order-17", enqueued_at=1_700_000_000.123)
    row = await desk.row()
    assert (row.direction, row.phone, row.contact_id) == ("out", PHONE, contact.id)
    assert (row.type, row.text, row.status, row.wamid) == ("text", "hello", "accepted", desk.server.wamids[0])
    assert (row.job_queue, row.job_key) == ("message", "order-17")
    assert row.job_enqueued_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert await desk.steps() == {"sending", "accepted"}


async def test_a_number_that_nobody_knows_gets_no_contact(desk: Desk) -> None:
    await desk.send({"to": PHONE.removeprefix("+")})
    assert await fetch(desk.database, contacts.by_phone, PHONE) is None
    assert ((await desk.row()).phone, (await desk.row()).contact_id) == (PHONE, None)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"text": "hello"}, "hello"),
        ({"template": {"name": "order_paid", "language": "de"}}, "order_paid"),
        ({"image": {"id": "1", "caption": "look"}}, "look"),
        ({"audio": {"id": "1"}}, None),
        ({"document": {"id": "1", "filename": "bill.pdf"}}, "bill.pdf"),
        ({"location": {"latitude": 1, "longitude": 2, "name": "Shop"}}, "Shop"),
        ({"reaction": {"message_id": "wamid.X", "emoji": "👍"}}, "👍"),
        (
            {
                "interactive": {
                    "type": "button",
                    "body": {"text": "Did it arrive?"},
                    "action": {"buttons": [{"reply": {"id": "y", "title": "Yes"}}]},
                }
            },
            "Did it arrive?",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_database_keeps_what_a_message_says(payload: dict[str, Any], text: str | None) -> None:
    assert SendMessage.model_validate({"to": PHONE, **payload}).summary == text


async def test_our_own_fields_do_not_go_to_whatsapp(desk: Desk) -> None:
    await desk.send({"once": "a:1", "campaign": 7, "mark_read": desk.server.written()})
    assert set(desk.server.messages[0]) == {
        *("messaging_product", "recipient_type", "to", "type", "text", "biz_opaque_callback_data")
    }


async def test_a_repeat_sends_nothing_and_says_what_was_sent(desk: Desk) -> None:
    first = await desk.send()
    assert await desk.send() == first
    assert await desk.send({"once": "word"}, key="a") == {**first, "message_id": desk.server.wamids[1]}
    again = await desk.send({"once": "word"}, key="b")
    assert (again["message_id"], again["status"]) == (desk.server.wamids[1], "accepted")
    assert len(desk.server.messages) == 2
    assert len(await desk.rows()) == 2


async def test_a_word_that_was_used_for_somebody_else_fails_and_names_both(desk: Desk) -> None:
    await desk.send({"once": "word"}, key="a")
    signal = await raised(
        Permanent, desk.send({"once": "word", "to": "+4915187654321"}, key="b"), "+49…5678", "+49…4321"
    )
    assert signal.code == "once_differs"
    assert PHONE not in str(signal)
    assert len(desk.server.messages) == 1


async def test_a_contact_that_opted_out_gets_nothing(desk: Desk) -> None:
    await commit(desk.database, contacts.opt_out, PHONE, utc_now())
    run = RecordedRun()
    assert (await raised(Permanent, desk.send(run=run))).code == "opted_out"
    assert (desk.server.messages, run.effects_begun) == ([], 0)
    assert ((await desk.row()).status, (await desk.row()).error_code) == ("failed", "opted_out")


async def test_marketing_does_not_go_to_who_has_stopped_it_and_all_else_does(desk: Desk) -> None:
    async with desk.database.transaction() as s:
        await contacts.stop_marketing(s, PHONE, utc_now())
        s.add(Campaign(id=7, name="spring", definition={}, status="running"))
    wanted: list[dict[str, Any]] = [{}, {"category": "utility"}, {"campaign": 7, "category": "utility"}]
    unwanted: list[dict[str, Any]] = [{"category": "marketing"}, {"campaign": 7}]
    for number, marketing in enumerate(unwanted):
        assert (await raised(Permanent, desk.send(marketing, key=f"m{number}"))).code == "marketing_stopped"
    assert desk.server.messages == []
    for number, other in enumerate(wanted):
        await desk.send(other, key=f"o{number}")
    assert len(desk.server.messages) == 3
    assert all("category" not in message for message in desk.server.messages)
    await commit(desk.database, contacts.resume_marketing, PHONE, utc_now() + timedelta(seconds=1))
    await desk.send({"category": "marketing"}, key="again")


async def test_an_answer_that_marketing_was_stopped_is_remembered(desk: Desk) -> None:
    desk.server.then_error(131050)
    before = utc_now()
    assert (await raised(Permanent, desk.send({"category": "marketing"}, key="a"))).code == "131050"
    contact = await fetch(desk.database, contacts.by_phone, PHONE)
    assert contact
    assert contact.marketing_stopped_at
    assert contact.marketing_stopped_at >= before
    assert contact.opted_out_at is None
    assert (await raised(Permanent, desk.send({"category": "marketing"}, key="b"))).code == "marketing_stopped"
    await desk.send({"text": "your order"}, key="c")


@pytest.mark.parametrize(
    ("to", "wa_id"), [("5511981234567", "551181234567"), ("4915112345678", "4915112345679")], ids=["BR", "taught"]
)
async def test_who_was_written_to_by_another_number_is_heard(desk: Desk, to: str, wa_id: str) -> None:
    desk.server.know_as(to, wa_id)
    assert (await desk.send({"to": f"+{to}"}, key="a"))["recipient"] == wa_id
    await commit(desk.database, contacts.opt_out, f"+{wa_id}", utc_now(), "w1")
    for number, phone in enumerate((to, wa_id)):
        assert (await raised(Permanent, desk.send({"to": f"+{phone}"}, key=f"k{number}"))).code == "opted_out"
    assert len(desk.server.messages) == 1


async def test_an_unknown_outcome_is_written_and_never_sent_again(desk: Desk) -> None:
    desk.server.then_drop()
    await raised(OutcomeUnknown, desk.send())
    row = await desk.row()
    assert row.status == "unknown"
    assert "may have taken" in (row.error or "")
    await raised(OutcomeUnknown, desk.send(), f"record {row.id}")
    assert len(desk.server.messages) == 1


async def test_what_a_dead_daemon_left_is_not_sent_again(desk: Desk) -> None:
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    await desk.repository.begin(Outgoing(PHONE, "text", "hello", "message", "job-1", at))
    await raised(OutcomeUnknown, desk.send())
    assert desk.server.messages == []
    assert (await desk.row()).status == "unknown"


async def test_an_attempt_that_sent_nothing_may_be_repeated(desk: Desk) -> None:
    desk.server.then_error(131000)
    await raised(Retry, desk.send(attempt=1))
    row = await desk.row()
    assert (row.status, row.error_code) == ("retrying", "131000")
    assert (await desk.send(attempt=2))["status"] == "accepted"
    row = await desk.row()
    assert (row.status, row.error_code, row.error) == ("accepted", None, None)
    assert await desk.steps() == {"sending", "retrying", "accepted"}


@pytest.mark.parametrize(
    ("code", "attempt", "status"),
    [
        (131026, 1, "failed"),
        (131000, 3, "failed"),
        (131000, 2, "retrying"),
        (131056, 3, "retrying"),
        (131049, 2, "failed"),
    ],
)
async def test_only_what_is_not_tried_again_has_failed(desk: Desk, code: int, attempt: int, status: str) -> None:
    desk.server.then_error(code)
    await raised(JobSignal, desk.send(attempt=attempt))
    row = await desk.row()
    assert (row.status, row.error_code) == (status, str(code))
    assert f"details of {code}" in (row.error or "")


async def test_without_the_database_nothing_is_sent_and_the_job_waits(desk: Desk) -> None:
    await desk.database.stop()
    run = RecordedRun()
    assert (await raised(Snooze, desk.send(run=run))).after == 10
    assert (desk.server.messages, run.effects_begun) == ([], 0)


async def test_an_outcome_is_written_once_the_database_is_back(desk: Desk) -> None:
    class Reopening(RecordedRun):
        async def effect_begun(self) -> None:
            await desk.database.stop()

    sending = asyncio.create_task(desk.send(run=Reopening()))
    await wait_until(lambda: desk.server.messages)
    await desk.database.start()
    assert (await sending)["status"] == "accepted"
    assert (await desk.row()).status == "accepted"


async def test_an_outcome_that_cannot_be_written_does_not_change_the_jobs_end(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(RecordedRun):
        async def effect_begun(self) -> None:
            await desk.database.stop()

    assert (await desk.send(run=Closing(), timeout_seconds=1.2))["message_id"] == desk.server.wamids[0]
    assert "settled by its job later" in caplog.text
    assert PHONE not in caplog.text


async def test_a_stop_before_the_effect_leaves_nothing_that_looks_sent(desk: Desk) -> None:
    reached = asyncio.Event()

    class Waiting(RecordedRun):
        async def effect_begun(self) -> None:
            reached.set()
            await asyncio.Event().wait()

    await cancel_once(reached.is_set, desk.send(run=Waiting()))
    assert (await desk.row()).status == "retrying"
    assert (await desk.send())["status"] == "accepted"


async def test_a_stop_while_the_row_is_written_leaves_nothing_that_looks_sent(desk: Desk) -> None:
    async with desk.database.transaction():
        sending = asyncio.create_task(desk.send())
        await wait_until(lambda: desk.repository._begin._tasks)  # its transaction waits for ours
        sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert [row.status for row in await desk.rows()] in ([], ["retrying"])
    assert (await desk.send())["status"] == "accepted"
    assert len(desk.server.messages) == 1


async def test_a_stop_during_the_send_is_unknown(desk: Desk) -> None:
    desk.server.then_hang()
    await cancel_once(lambda: desk.server.messages, desk.send())
    assert (await desk.row()).status == "unknown"


async def test_an_effect_that_must_not_begin_sends_nothing(desk: Desk) -> None:
    class Cancelled(RecordedRun):
        async def effect_begun(self) -> None:
            raise IllegalTransition("the job was cancelled")

    with pytest.raises(IllegalTransition):
        await desk.send(run=Cancelled())
    assert desk.server.messages == []
    assert (await desk.row()).status == "retrying"


async def test_an_inbound_message_is_marked_as_read_first(desk: Desk) -> None:
    wamid = desk.server.written()
    await desk.send({"mark_read": wamid})
    assert desk.server.read == [wamid]
    assert len(desk.server.messages) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, {"error": {"code": 100, "message": "no such message"}}), (500, {}), (200, {"error": 1})],
)
async def test_a_mark_that_fails_does_not_stop_the_message(
    desk: Desk, status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk.server.then(status, body, mark_read=True)
    assert (await desk.send({"mark_read": "wamid.IN"}))["status"] == "accepted"
    assert ("could not be marked as read" in caplog.text) == (status != 200)


@pytest.mark.parametrize("once", ["", "two words", "x" * 201, "ü"])
def test_a_word_of_once_is_plain(once: str) -> None:
    with pytest.raises(ValueError, match="once"):
        SendMessage.model_validate({**TEXT, "once": once})
