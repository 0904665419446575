"""`whatsapp_event`: statuses, inbound messages, opt-out words, flows; repeated, out of order, and malformed."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import update

from crmd.crm.consent.keywords import ConsentKeywords
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.flows import repository as flows
from crmd.crm.flows.definition import FlowDefinition
from crmd.crm.flows.tables import Flow
from crmd.crm.inbound.jobs import EventTaken, whatsapp_event
from crmd.crm.inbound.payloads import WhatsAppEvent, text_of
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Outgoing
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.tables import Message
from crmd.crm.messages.unknown_jobs import Settled, UnknownJobs
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.errors import JobSignal, Permanent, Snooze, StoreUnavailable
from tests.support.context import RecordedRun, make_context
from tests.support.database import commit, fetch
from tests.support.meta import event, failure, sender, status, text_message
from tests.support.raised import raised

PHONE = "+4915112345678"
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


class SettledJobs(UnknownJobs):
    """Notes which jobs were settled."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    async def settle(self, settled: Settled) -> bool:
        """Notes it."""
        if self._hall.store_away:
            raise StoreUnavailable("the store is unavailable")
        self._hall.settled.append(settled)
        return True


@dataclass
class Hall:
    """Takes events in, and looks at the database."""

    database: Database
    repository: MessageRepository
    whatsapp: WhatsAppClient
    settled: list[Settled] = field(default_factory=list)
    store_away: bool = False

    async def take(self, *events: dict[str, Any], **context: Any) -> EventTaken:
        entries = [entry for one in events for entry in one["entry"]]
        return await self.take_raw({"entry": entries}, **context)

    async def take_raw(self, payload: dict[str, Any], **context: Any) -> EventTaken:
        words = ConsentKeywords(("stop", "Unsubscribe"), ("start",))
        resources = (self.database, self.repository, self.whatsapp, words, SettledJobs(self))
        ctx = make_context(*resources, queue="webhook", name="whatsapp_event", **context)
        return await whatsapp_event(ctx, WhatsAppEvent.model_validate(payload))

    async def sent(self, key: str = "job-1") -> tuple[int, str]:
        """A message that WhatsApp took: its id and wamid."""
        begun = await self.repository.begin(Outgoing(PHONE, "text", "hello", "message", key, AT))
        await self.repository.accepted(begun.message_id, f"wamid.{key}")
        return begun.message_id, f"wamid.{key}"

    async def unknown(self, key: str = "job-1") -> int:
        begun = await self.repository.begin(Outgoing(PHONE, "text", "hello", "message", key, AT))
        await self.repository.unknown(begun.message_id, "no answer")
        return begun.message_id

    async def row(self, message_id: int) -> Message:
        async with self.database.reading() as s:
            return await s.get_one(Message, message_id)

    async def inbound(self) -> list[Message]:
        return await fetch(self.database, messages.page, messages.MessageFilter(direction="in"), None, 100)

    async def contact(self, phone: str = PHONE) -> Contact:
        found = await fetch(self.database, contacts.by_phone, phone)
        assert found is not None
        return found


@pytest.fixture
def hall(sqlite_database: Database, repository: MessageRepository, whatsapp: WhatsAppClient) -> Hall:
    return Hall(sqlite_database, repository, whatsapp)


# Statuses


async def test_statuses_move_a_message_on_in_any_order(hall: Hall) -> None:
    message_id, wamid = await hall.sent()
    taken = await hall.take(
        event(statuses=[status(wamid, "read"), status(wamid, "sent"), status(wamid, "delivered")])
    )
    assert taken == {"statuses": 1, "messages": 0, "repeated": 2, "foreign": 0, "ignored": {}}
    assert (await hall.row(message_id)).status == "read"
    history = {one.status for one in await fetch(hall.database, messages.history, message_id)}
    assert history == {"sending", "accepted", "sent", "delivered", "read"}


async def test_a_failure_keeps_its_code_and_details(hall: Hall) -> None:
    message_id, wamid = await hall.sent()
    await hall.take(event(statuses=[failure(wamid, 131049)]))
    row = await hall.row(message_id)
    assert (row.status, row.error_code, row.error) == ("failed", "131049", "details of 131049")


async def test_a_thousand_statuses_in_one_event(hall: Hall) -> None:
    known = [await hall.sent(f"job-{number}") for number in range(5)]
    updates = [status(known[n % 5][1], ("sent", "delivered", "read")[n % 3]) for n in range(900)]
    taken = await hall.take(event(statuses=[*updates, *(status(f"wamid.other{n}") for n in range(100))]))
    assert taken["statuses"] + taken["repeated"] == 900
    assert taken["foreign"] == 100
    assert {(await hall.row(message_id)).status for message_id, _ in known} == {"read"}


async def test_an_unknown_message_and_its_job_are_settled(hall: Hall) -> None:
    sent, failed = await hall.unknown("job-1"), await hall.unknown("job-2")
    updates = [
        status("wamid.A", "delivered", biz_opaque_callback_data="job-1"),
        status("wamid.A", "read", biz_opaque_callback_data="job-1"),
        failure("wamid.B", 131026, biz_opaque_callback_data="job-2"),
    ]
    await hall.take(event(statuses=updates))
    assert ((await hall.row(sent)).status, (await hall.row(sent)).wamid) == ("read", "wamid.A")
    assert (await hall.row(failed)).status == "failed"
    first, second = hall.settled
    assert (first.queue, first.key, first.enqueued_at, first.error) == ("message", "job-1", AT, None)
    assert first.result == {"message_id": "wamid.A", "recipient": PHONE[1:], "status": "delivered"}
    assert (second.key, second.error) == ("job-2", "WhatsApp error 131026: details of 131026")


async def test_a_store_that_is_away_does_not_keep_the_message_unknown(hall: Hall) -> None:
    message_id = await hall.unknown()
    hall.store_away = True
    await hall.take(event(statuses=[status("wamid.A", biz_opaque_callback_data="job-1")]))
    assert (await hall.row(message_id)).status == "sent"


# Inbound


async def test_an_inbound_message_is_recorded_with_its_contact(hall: Hall) -> None:
    taken = await hall.take(
        event(messages=[text_message("wamid.IN", "hello", timestamp="1790000000")], contacts=[sender()])
    )
    assert taken["messages"] == 1
    [message] = await hall.inbound()
    contact = await hall.contact()
    assert (message.phone, message.type, message.text, message.wamid) == (PHONE, "text", "hello", "wamid.IN")
    assert (message.status, message.contact_id) == ("received", contact.id)
    assert (contact.name, contact.last_inbound_at) == ("Ada", datetime.fromtimestamp(1_790_000_000, UTC))


async def test_a_repeated_event_changes_nothing(hall: Hall) -> None:
    _, wamid = await hall.sent()
    told = event(statuses=[status(wamid)], messages=[text_message("wamid.IN", "stop")])
    await hall.take(told)
    await commit(hall.database, contacts.opt_in, PHONE)
    taken = await hall.take(told)
    assert (taken["statuses"], taken["messages"], taken["repeated"]) == (0, 0, 2)
    assert len(await hall.inbound()) == 1
    assert (await hall.contact()).opted_out_at is None, "an old word does not hold against a new decision"


@pytest.mark.parametrize("word", ["stop", " STOP\n", "unsubscribe", "UNSUBSCRIBE "])
async def test_a_word_takes_its_sender_off(hall: Hall, word: str) -> None:
    await hall.take(event(messages=[text_message("wamid.1", word, timestamp="1790000000")]))
    assert (await hall.contact()).opted_out_at == datetime.fromtimestamp(1_790_000_000, UTC)


async def test_a_word_puts_its_sender_back_and_other_texts_do_not(hall: Hall) -> None:
    for number, (text, off) in enumerate(
        (("stop it please", False), ("stop", True), ("restart", True), ("Start", False))
    ):
        await hall.take(event(messages=[text_message(f"wamid.{number}", text)]))
        assert ((await hall.contact()).opted_out_at is not None) == off, text


async def test_a_word_that_comes_late_undoes_no_later_one(hall: Hall) -> None:
    now = int(time.time())
    for wamid, word, at in (("w1", "STOP", now), ("w2", "start", now - 60), ("w3", "hello", now + 1)):
        await hall.take(event(messages=[text_message(wamid, word, timestamp=str(at))]))
    assert (await hall.contact()).opted_out_at == datetime.fromtimestamp(now, UTC)
    for wamid, word in (("w5", "start"), ("w4", "stop")):
        await hall.take(event(messages=[text_message(wamid, word, timestamp=str(now + 2))]))
    assert (await hall.contact()).opted_out_at is None, "of one second the greater id"


async def test_a_stop_from_the_other_form_of_a_number(hall: Hall) -> None:
    await commit(hall.database, contacts.ensure, "+5511981234567", "Ana")
    await hall.take(
        event(messages=[text_message("w1", "parar", "551181234567")], contacts=[sender("551181234567")])
    )
    contact = await hall.contact("+5511981234567")
    assert (contact.name, contact.opted_out_at is not None) == ("Ana", True)
    [message] = await hall.inbound()
    assert (message.phone, message.contact_id) == ("+551181234567", contact.id)


def preference(value: str, at: int, **fields: Any) -> dict[str, Any]:
    chosen = {"wa_id": PHONE[1:], "detail": "x", "category": "marketing_messages", "value": value, "timestamp": at}
    value_ = {"messaging_product": "whatsapp", "metadata": {}, "user_preferences": [chosen | fields]}
    return {"entry": [{"id": "1", "changes": [{"field": "user_preferences", "value": value_}]}]}


async def test_the_button_that_stops_marketing_and_the_one_that_resumes_it(hall: Hall) -> None:
    now = int(time.time())
    assert (await hall.take(preference("stop", now))).get("choices") == 1
    contact = await hall.contact()
    assert (contact.marketing_stopped_at, contact.opted_out_at) == (datetime.fromtimestamp(now, UTC), None)
    await hall.take(preference("resume", now - 1))
    assert (await hall.contact()).marketing_stopped_at is not None, "the later choice holds"
    await hall.take(preference("resume", now + 1), preference("stop", now))
    assert (await hall.contact()).marketing_stopped_at is None


async def test_preferences_that_are_not_about_marketing_or_nobody_we_know(hall: Hall) -> None:
    taken = await hall.take(
        preference("stop", 1, category="other"), preference("maybe", 1), preference("stop", 1, wa_id=None)
    )
    assert taken["ignored"] == {
        "preference other stop": 1,
        "preference marketing_messages maybe": 1,
        "preference without a phone number": 1,
    }
    await raised(JobSignal, hall.take_raw(preference("stop", 1, category=["x"])), "user_preferences.0")
    await hall.take(preference("stop", 1))
    assert (await hall.contact()).marketing_stopped_at is not None


async def test_a_status_that_says_that_marketing_was_stopped(hall: Hall) -> None:
    _, wamid = await hall.sent()
    await hall.take(event(statuses=[failure(wamid, 131050, timestamp="1790000000")]))
    assert (await hall.contact()).marketing_stopped_at == datetime.fromtimestamp(1_790_000_000, UTC)
    await hall.take(event(statuses=[failure("wamid.other", 131050, recipient_id="4915187654321")]))
    assert (await hall.contact("+4915187654321")).marketing_stopped_at is not None, "of another program's message"


async def test_an_opt_out_without_a_phone_number_is_a_warning(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"wamid.1": "Stop, please", "wamid.2": "hello"}
    await hall.take(
        event(messages=[{**text_message(w, text), "from": "US.13491208655302"} for w, text in said.items()])
    )
    [record] = [one for one in caplog.records if "without a phone number" in one.getMessage()]
    assert (record.levelname, record.__dict__["fields"]) == ("WARNING", {"wamid": "wamid.1"})


async def test_what_is_said_in_a_group_is_no_opt_out(hall: Hall) -> None:
    await hall.take(event(messages=[text_message("wamid.1", "stop", group_id="Y2FwaV9ncm91cDo")]))
    assert (await hall.contact()).opted_out_at is None


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "button", "button": {"text": "Stop", "payload": "x"}},
        {"type": "button", "button": {"text": "Stop promotions", "payload": "P1"}},
        {"type": "button", "button": {"text": "x", "payload": "stop_promotions"}},
        {
            "type": "interactive",
            "interactive": {"type": "button_reply", "button_reply": {"id": "7", "title": "Detener promociones"}},
        },
        {
            "type": "interactive",
            "interactive": {"type": "list_reply", "list_reply": {"id": "unsubscribe", "title": "Leave"}},
        },
    ],
)
async def test_buttons_and_lists_may_say_it(hall: Hall, fields: dict[str, Any]) -> None:
    await hall.take(event(messages=[text_message("wamid.1", "", **fields)]))
    assert (await hall.contact()).opted_out_at is not None


@pytest.mark.usefixtures("any_flow")
async def test_an_old_opt_out_is_heard_and_starts_nothing(hall: Hall) -> None:
    run, at = RecordedRun(), int(time.time()) - 3 * DAY
    await hall.take(event(messages=[text_message("wamid.1", "Stop, please!", timestamp=str(at))]), run=run)
    assert (await hall.contact()).opted_out_at == datetime.fromtimestamp(at, UTC)
    assert run.enqueued == []


def test_a_word_cannot_mean_both() -> None:
    with pytest.raises(ValueError, match="stop"):
        ConsentKeywords(("Stop",), ("stop ",))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"type": "text", "text": {"body": "hi"}}, "hi"),
        ({"type": "button", "button": {"text": "Yes", "payload": "y"}}, "Yes"),
        (
            {
                "type": "interactive",
                "interactive": {"type": "button_reply", "button_reply": {"id": "y", "title": "Yes"}},
            },
            "Yes",
        ),
        (
            {
                "type": "interactive",
                "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Red"}},
            },
            "Red",
        ),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent"}}}, "Sent"),
        ({"type": "interactive", "interactive": {"type": "new"}}, None),
        ({"type": "edit", "edit": {"message": {"type": "text", "text": {"body": "new"}}}}, "new"),
        ({"type": "edit", "edit": {"message": {"type": "edit", "edit": {"message": {}}}}}, None),
        ({"type": "edit", "edit": {}}, None),
        ({"type": "interactive", "interactive": {"type": ["new"]}}, None),
        ({"type": ["text"], "text": {"body": "hi"}}, None),
        ({"type": "image", "image": {"id": "1", "caption": "look"}}, "look"),
        ({"type": "document", "document": {"filename": "a.pdf"}}, "a.pdf"),
        ({"type": "reaction", "reaction": {"emoji": "👍", "message_id": "w"}}, "👍"),
        ({"type": "location", "location": {"latitude": 1, "longitude": 2}}, None),
        ({"type": "audio", "audio": {"id": "1"}}, None),
        ({"type": "of tomorrow", "of tomorrow": {"body": "x"}}, None),
        ({"type": "text", "text": "no object"}, None),
        ({"type": "text", "text": {"body": 7}}, None),
        ({"type": 7}, None),
        ({}, None),
    ],
)
def test_the_text_of_each_type(message: dict[str, Any], text: str | None) -> None:
    assert text_of(message) == text


# Flows


async def put_flow(hall: Hall, start: dict[str, Any]) -> None:
    steps = [{"id": "hello", "type": "send", "text": "hello"}]
    definition = FlowDefinition.model_validate({"name": "orders", "start": start, "steps": steps})
    await commit(hall.database, flows.put, "orders", definition.model_dump(mode="json"))


@pytest.fixture
async def flow(hall: Hall) -> None:
    """A flow that the word `order` starts."""
    await put_flow(hall, {"on": "message", "words": ["order"]})


@pytest.mark.usefixtures("flow")
async def test_a_message_starts_a_flow_once(hall: Hall) -> None:
    told, run = event(messages=[text_message("wamid.1", "an order"), text_message("wamid.2", "hi")]), RecordedRun()
    await hall.take(told, run=run)
    await hall.take(told, run=run)
    assert [(queue, name) for queue, name, *_ in run.enqueued] == [("flow", "run_flow")]


@pytest.mark.usefixtures("flow")
async def test_flows_see_a_message_whose_job_died_before_they_did(hall: Hall) -> None:
    class Unavailable(RecordedRun):
        async def enqueue(self, queue: str, name: str, jobs: Any) -> list[str]:
            raise StoreUnavailable("the store is unavailable")

    told = event(messages=[text_message("wamid.1", "an order")])
    with pytest.raises(StoreUnavailable):
        await hall.take(told, run=Unavailable())
    again = RecordedRun()
    taken = await hall.take(told, run=again, attempt=2)
    assert (taken["messages"], taken["repeated"]) == (0, 1)
    assert [(queue, name) for queue, name, *_ in again.enqueued] == [("flow", "run_flow")]


@pytest.mark.usefixtures("flow")
async def test_flows_see_a_message_at_which_they_failed_once(hall: Hall) -> None:
    """The database was unavailable in the middle, say: then the job comes back as if it had never run."""
    told, run = event(messages=[text_message("wamid.1", "an order")]), RecordedRun()
    async with hall.database.transaction() as s:
        await s.execute(update(Flow).values(definition={"start": {"on": "message", "words": 7}}))
    with pytest.raises(ValidationError):
        await hall.take(told, run=run)
    await put_flow(hall, {"on": "message"})
    assert ((await hall.take(told, run=run))["messages"], len(run.enqueued)) == (1, 1)


DAY = 86_400
NO_ANSWERS: dict[str, dict[str, Any]] = {
    "a reaction": {"type": "reaction", "reaction": {"message_id": "wamid.X", "emoji": "order"}},
    "an edit": {"type": "edit", "edit": {"message": {"type": "text", "text": {"body": "an order"}}}},
    "taken back": {"type": "revoke", "revoke": {"original_message_id": "wamid.X"}},
    "not supported": {
        "type": "unsupported",
        "errors": [{"code": 131051}],
        "unsupported": {"type": "poll_creation"},
    },
    "of tomorrow": {"type": "of tomorrow", "of tomorrow": {"body": "an order"}},
    "unreadable": {"type": "document", "document": {"caption": "an order"}, "errors": [{"code": 131052}]},
    "of a group": {"group_id": "Y2FwaV9ncm91cDo"},
    "three days old": {"timestamp": str(int(time.time()) - 3 * DAY)},
    "a day and a minute old": {"timestamp": str(int(time.time()) - DAY - 60)},
}


@pytest.fixture
async def any_flow(hall: Hall) -> None:
    """A flow that any message starts."""
    await put_flow(hall, {"on": "message"})


@pytest.mark.usefixtures("any_flow")
@pytest.mark.parametrize("fields", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_fresh_private_message_starts_no_flow(hall: Hall, fields: dict[str, Any]) -> None:
    run = RecordedRun()
    taken = await hall.take(event(messages=[text_message("wamid.1", "an order", **fields)]), run=run)
    assert (taken["messages"], run.enqueued) == (1, [])
    assert [one.wamid for one in await hall.inbound()] == ["wamid.1"]


@pytest.mark.usefixtures("any_flow")
@pytest.mark.parametrize("fields", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_fresh_private_message_answers_no_question(hall: Hall, fields: dict[str, Any]) -> None:
    ask = {"id": "ask", "type": "wait_for_reply", "timeout": "1h", "on_timeout": "end"}
    steps = [ask, {"id": "end", "type": "end"}]
    async with hall.database.transaction() as s:
        await flows.put(s, "quiz", {"name": "quiz", "steps": steps})
        quiz = await flows.by_name(s, "quiz")
        assert quiz
        contact = await contacts.ensure(s, PHONE)
        at, _ = await flows.start(s, quiz, contact.id, once="x", step="ask", data={"saved": {}, "messages": []})
        await flows.save(s, at, flows.Step(flows.RunState.WAITING_FOR_REPLY, "ask", {"saved": {}, "messages": []}))
    run = RecordedRun()
    await hall.take(event(messages=[text_message("wamid.1", "an order", **fields)]), run=run)
    assert run.enqueued == []
    await hall.take(event(messages=[text_message("wamid.2", "blue", timestamp=str(int(time.time())))]), run=run)
    assert len(run.enqueued) == 1, "a message of now does"


@pytest.mark.parametrize(
    ("fields", "opens"),
    [
        ({}, True),
        (NO_ANSWERS["not supported"], True),
        (NO_ANSWERS["a reaction"], False),
        (NO_ANSWERS["an edit"], False),
        (NO_ANSWERS["taken back"], False),
        (NO_ANSWERS["of a group"], False),
    ],
)
async def test_what_opens_the_window_of_free_form_messages(
    hall: Hall, fields: dict[str, Any], opens: bool
) -> None:
    await hall.take(event(messages=[text_message("wamid.1", "hi", **fields)]))
    assert ((await hall.contact()).last_inbound_at is not None) == opens


# Malformed, unknown, and the database unavailable


WRONG: tuple[Any, ...] = (None, True, 0.5, "9" * 5000, ["x"], {"x": []})


def spoiled(item: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The item with each of its parts in turn replaced by what does not belong there."""

    def replaced(value: Any) -> Any:
        whole = copy.deepcopy(item)
        at = whole
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return whole

    here = item
    for step in path:
        here = here[step]
    for number, value in enumerate(WRONG if path else ()):
        yield f"{'.'.join(map(str, path))} #{number}", replaced(value)
    for step in here if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ():
        yield from spoiled(item, (*path, step))


async def mistakes(hall: Hall, told: dict[str, Any]) -> str:
    """What the job says that it could not read, if anything."""
    try:
        await hall.take(told)
    except Permanent as error:
        return f"{error.code}: {error}"
    return ""


async def test_whatever_one_item_has_of_a_wrong_type_the_others_are_taken_in(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    _, wamid = await hall.sent()
    told = failure("wamid.X", 131026, biz_opaque_callback_data="job-x")
    written = text_message("wamid.Y", "secret words", sender="4915199999999")
    pressed = text_message("wamid.Y", "", type="button", button={"text": "secret words", "payload": "x"})
    chosen = {"type": "list_reply", "list_reply": {"id": "1", "title": "secret words"}}
    picked = text_message("wamid.Y", "", type="interactive", interactive=chosen)
    cases = [("statuses", told), ("messages", written), ("messages", pressed), ("messages", picked)]
    for kind, item in cases:
        for number, (place, wrong) in enumerate(spoiled(item)):
            good = event(
                statuses=[*([wrong] if kind == "statuses" else []), status(wamid, "read", timestamp=str(number))],
                messages=[*([wrong] if kind == "messages" else []), text_message(f"wamid.{place}", "hi")],
            )
            assert "secret" not in await mistakes(hall, good)
            assert await fetch(hall.database, messages.by_wamid, f"wamid.{place}"), place
    assert "secret" not in caplog.text
    assert "4915199999999" not in caplog.text


async def test_what_was_skipped_is_counted_in_the_log(hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
    wrong = [text_message("wamid.1", "secret", type=["text"]), status("wamid.2", status=["sent"])]
    told = event(messages=[wrong[0], text_message("wamid.3", "hi")], statuses=[wrong[1]])
    await raised(JobSignal, hall.take_raw(told), "messages.0.type is not text", "statuses.0.status is not text")
    [record] = [one for one in caplog.records if "were skipped" in one.getMessage()]
    assert record.fields["malformed"] == 2  # type: ignore[attr-defined]
    assert [one.wamid for one in await hall.inbound()] == ["wamid.3"]


async def test_what_nobody_described_is_counted_and_passed_over(hall: Hall) -> None:
    _, wamid = await hall.sent()
    other_field = {"entry": [{"id": "1", "changes": [{"field": "account_update", "value": {"event": "x"}}]}]}
    system = text_message("wamid.S", "", type="system", system={"body": "changed number"})
    nameless = {key: value for key, value in text_message("wamid.N", "hi").items() if key != "from"}
    taken = await hall.take(
        other_field,
        event(statuses=[status(wamid, "warped"), status(wamid, "sent", new_field={"a": 1})]),
        event(messages=[system, nameless, text_message("wamid.U", "", type="of tomorrow")], errors=[{"code": 1}]),
        event(statuses=[status("wamid.Z")], number_id="999"),
    )
    assert taken["ignored"] == {
        "field account_update": 1,
        "status warped": 1,
        "message system": 1,
        "message without a phone number": 1,
        "errors": 1,
        "another number": 1,
    }
    assert (taken["statuses"], taken["messages"], taken["foreign"]) == (1, 1, 0)
    assert [(one.type, one.text) for one in await hall.inbound()] == [("of tomorrow", None)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"statuses": [{"status": "sent", "timestamp": "1"}]}, r"statuses\.0\.id is not an id"),
        ({"statuses": [{"id": "w", "status": "sent", "timestamp": "soon"}]}, r"statuses\.0\.timestamp"),
        ({"statuses": [{"id": "w", "status": "sent", "timestamp": "9" * 30}]}, r"statuses\.0\.timestamp"),
        ({"statuses": [{"id": "w", "status": "sent", "timestamp": True}]}, r"statuses\.0\.timestamp"),
        ({"statuses": [7]}, r"statuses\.0 is not an object"),
        ({"statuses": {}}, r"statuses is not a list"),
        ({"messages": [{"from": "49151", "type": "text", "timestamp": "1"}]}, r"messages\.0\.id is not an id"),
        ({"messages": "x"}, r"messages is not a list"),
    ],
)
async def test_malformed_parts_fail_the_job_and_the_rest_is_taken_in(
    hall: Hall, change: dict[str, Any], reason: str
) -> None:
    message_id, wamid = await hall.sent()
    good = event(statuses=[status(wamid)])["entry"]
    bad = {"id": "2", "changes": [{"field": "messages", "value": change}]}
    signal = await raised(Permanent, hall.take_raw({"entry": [bad, *good]}))
    assert signal.code == "malformed"
    assert re.search(reason, str(signal)), str(signal)
    assert (await hall.row(message_id)).status == "sent"


@pytest.mark.parametrize(
    "entry", [[7], [{}], [{"changes": 7}], [{"changes": [7]}], [{"changes": [{"field": "messages"}]}]]
)
async def test_an_envelope_that_is_none_says_where(hall: Hall, entry: list[Any]) -> None:
    await raised(Permanent, hall.take_raw({"entry": entry}), "entry.0")


async def test_many_mistakes_are_told_in_short(hall: Hall) -> None:
    await raised(JobSignal, hall.take_raw(event(statuses=[7] * 500) | {}), "and 495 more")


async def test_an_event_waits_for_the_database(hall: Hall) -> None:
    await hall.database.stop()
    for told in (event(statuses=[status("wamid.A")]), event(messages=[text_message("wamid.IN", "hi")])):
        assert (await raised(Snooze, hall.take_raw({"entry": told["entry"]}))).after == 5
