"""`run_campaign`: who gets what, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from crmd.crm.campaigns import progress as campaign_pace
from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns.jobs import run_campaign
from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.campaigns.progress import CampaignProgress
from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.statuses import StatusUpdate, apply_status
from crmd.crm.tabular.xlsx_source import MAX_CHILDREN
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.engine.admin.views import State
from crmd.errors import Snooze, StoreFull
from crmd.jobs import NewPayload
from tests.support.campaigns import KEY, QUEUES, CampaignBench, definition, inline, phone
from tests.support.database import commit, fetch
from tests.support.engine_harness import engine_harness, kill
from tests.support.flows import CutRun, StoredRun
from tests.support.services import WhatsAppServer
from tests.support.wait import wait_until

TEMPLATE: dict[str, Any] = {
    "template": {
        "name": "offer",
        "language": "en",
        "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "{{ name|title }}"}]},
            {
                "type": "button",
                "sub_type": "url",
                "index": 0,
                "parameters": [{"type": "text", "text": "{{ code }}"}],
            },
        ],
    }
}


@pytest.fixture
async def bench(
    store_url: str, sqlite_database: Database, whatsapp: WhatsAppClient, server: WhatsAppServer, tmp_path: Path
) -> AsyncIterator[CampaignBench]:
    async with engine_harness(store_url, *QUEUES) as made:
        yield CampaignBench(made, sqlite_database, whatsapp, server, tmp_path)


class FullRun(StoredRun):
    """The store takes nothing."""

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        raise StoreFull("the store's memory is 90% full")


def payload(audience: dict[str, Any], **fields: Any) -> RunCampaign:
    return RunCampaign.model_validate(definition(audience, **fields))


# Who gets what


async def test_inline_recipients_get_their_text_once(bench: CampaignBench) -> None:
    result = await bench.work(definition(inline(12)))
    campaign = await bench.campaign()
    assert result == {"campaign": campaign.id, "status": "done", "total": 12, "queued": 12, "skipped": 0}
    assert await bench.sent(12) == {phone(n): f"Hello N{n}" for n in range(12)}
    assert (campaign.status, campaign.total, campaign.job_key) == ("done", 12, KEY)
    assert campaign.finished_at is not None
    await wait_until(lambda: bench.have({"accepted": 12}))


async def test_a_person_gets_it_once_by_whatever_number(bench: CampaignBench) -> None:
    async with bench.database.transaction() as s:
        s.add_all([Contact(phone="+5511981234567"), Contact(phone="+551181234567"), Contact(phone=phone(1))])
        await s.flush()
        await people.note_sent(s, [(phone(1), phone(2))], utc_now())
        s.add(Contact(phone="+5215512345678", opted_out_at=utc_now()))
    numbers = ("+551181234567", "+5511981234567", phone(2), phone(1), "+525512345678", phone(3))
    await bench.start_pool()
    to = {"recipients": [{"phone": one, "variables": {"name": "N"}} for one in numbers]}
    result = await bench.result(definition(to))
    assert (result["total"], result["queued"], result["skipped"]) == (6, 3, 3)
    assert set(await bench.sent(3)) == {"+551181234567", phone(2), phone(3)}
    reasons = await fetch(bench.database, campaign_recipients.skipped_reasons, (await bench.campaign()).id)
    assert reasons == {"another number of the same person is a recipient": 2, "the contact has opted out": 1}


async def test_marketing_leaves_out_who_has_stopped_it(bench: CampaignBench) -> None:
    await commit(bench.database, contacts.stop_marketing, phone(1), utc_now())
    result = await bench.work(definition(inline(3)))
    assert (result["queued"], result["skipped"]) == (2, 1)
    again = await bench.result(definition(inline(3), name="notice", category="utility"), key="notice")
    assert (again["queued"], again["skipped"]) == (3, 0)
    await wait_until(lambda: len(bench.server.messages) == 5)


async def test_contacts_by_tags_get_a_template_with_their_values(bench: CampaignBench) -> None:
    await bench.people(
        ContactRow(phone(1), "ann lee", tags=["club"], attributes={"code": "A1"}),
        ContactRow(phone(2), "bob", tags=["club"], attributes={"code": "B2"}),
        ContactRow(phone(3), "cy", tags=["other"], attributes={"code": "C3"}),
        ContactRow(phone(4), None, tags=["club"], attributes={"code": "D4"}),
        ContactRow(phone(5), "eve", tags=["club"], attributes={"code": ""}),
        ContactRow(phone(6), "fay", tags=["club"], attributes={"code": "F6"}),
    )
    await commit(bench.database, contacts.opt_out, phone(6), utc_now())
    result = await bench.work(definition({"filter": {"tags": ["club"]}}, TEMPLATE))
    assert (result["total"], result["queued"], result["skipped"]) == (5, 2, 3)
    await bench.sent(2)
    components = {one["to"]: one["template"]["components"] for one in bench.server.messages}
    assert components[phone(1)[1:]][0]["parameters"] == [{"type": "text", "text": "Ann Lee"}]
    assert components[phone(2)[1:]][1]["parameters"] == [{"type": "text", "text": "B2"}]
    reasons = await bench.reasons()
    assert reasons.pop("the contact has opted out") == 1
    assert reasons.pop("the variable name is missing") == 1
    assert list(reasons) == [
        "template.components.1.parameters.0: a parameter of type text needs the field text, not empty"
    ]


async def test_own_values_win_over_the_contacts(bench: CampaignBench) -> None:
    await bench.people(ContactRow(phone(1), "Ann", attributes={"city": "Rome"}, tags=["a", "b"]))
    await bench.start_pool()
    audience = {"recipients": [{"phone": phone(1), "variables": {"city": "Oslo", "name": None, "phone": "x"}}]}
    text = "{{ name }} {{ city }} {{ phone }} {{ tags|join('+') }}"
    await bench.result(definition(audience, {"text": text}))
    assert await bench.sent(1) == {phone(1): f"Ann Oslo {phone(1)} a+b"}


async def test_numbers_are_brought_into_one_form_and_bad_ones_skipped(bench: CampaignBench) -> None:
    await bench.start_pool()
    numbers = ["0151 1000 0001", "+49 151 10000001", "12", "abc"]
    audience = {"recipients": [{"phone": number} for number in numbers]}
    result = await bench.result(definition(audience, {"text": "hi"}, default_region="DE"))
    assert (result["total"], result["queued"], result["skipped"]) == (3, 1, 2)
    assert list(await bench.sent(1)) == ["+4915110000001"]
    assert all(reason.startswith("phone: ") for reason in await bench.reasons())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("people.csv", "Mobile;First Name;City;Note\n+4915110000001;Ann;Rome;x\n+4915110000001;Twice;Rome;x\n"
         "nonsense;Bob;Rome;x\n+4915110000003;Cy;;x\n"),
        ("people.jsonl", '{"mobile": "+4915110000001", "First Name": "Ann", "City": "Rome"}\n'
         '{"mobile": "+4915110000001", "First Name": "Twice"}\n{"mobile": "nonsense"}\n'
         '{"mobile": "+4915110000003", "First Name": "Cy"}\n'),
    ],
)  # fmt: skip
async def test_a_file_has_a_phone_column_and_variables(bench: CampaignBench, name: str, text: str) -> None:
    file = await bench.upload(text, name)
    result = await bench.work(definition({"file": file}, {"text": "{{ name }} of {{ City }}"}))
    assert (result["total"], result["queued"], result["skipped"]) == (3, 1, 2)
    assert await bench.sent(1) == {phone(1): "Ann of Rome"}
    reasons = await bench.reasons()
    assert reasons.pop("the variable City is missing") == 1
    assert "not a phone number" in next(iter(reasons))
    assert all(set(one.variables) <= {"name", "City"} for one in await bench.recipients()), "only what is read"


async def test_a_file_of_many_chunks_is_read_whole_and_goes_on_where_it_was(bench: CampaignBench) -> None:
    rows = "".join(f"{phone(n)},N{n}\n" for n in range(1_200))
    file = await bench.upload("phone,name\n" + rows)
    ctx = bench.context(CutRun(bench.harness.control, after=False))
    with pytest.raises(asyncio.CancelledError):
        await run_campaign(ctx, payload({"file": file}))
    campaign = await bench.campaign()
    assert (campaign.total, campaign.progress.audience) == (1_200, 1_201)
    async with bench.database.transaction() as s:
        kept = await s.get_one(type(campaign), campaign.id)
        kept.total, kept.progress = None, CampaignProgress(audience=501)
    await bench.start_pool("campaign")
    await bench.add(definition({"file": file}))
    await wait_until(lambda: _queued(bench, 500))
    assert len(await bench.recipients()) == 1_200


async def test_an_xlsx_file_waits_while_as_many_as_may_be_are_read(bench: CampaignBench, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(str(tmp_path / "people.xlsx")) as book:
        book.add_worksheet().write_column(0, 0, ["phone", phone(1)])
    file = await bench.upload((tmp_path / "people.xlsx").read_bytes(), "people.xlsx")
    others = [bench.xlsx.open(tmp_path / "people.xlsx", None) for _ in range(MAX_CHILDREN)]
    with pytest.raises(Snooze, match="are being read; this one waits"):
        await run_campaign(bench.context(), payload({"file": file}))
    others.pop().close()
    assert (await run_campaign(bench.context(), payload({"file": file})))["total"] == 1
    others.pop().close()


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "unknown_file"), ("", "unreadable_file"), ("a,b\n1,2\n", "unreadable_file")],
)
async def test_a_file_that_cannot_be_read_fails_the_job(
    bench: CampaignBench, content: str | None, code: str
) -> None:
    file = "0" * 32 if content is None else await bench.upload(content)
    await bench.start_pool()
    view = await bench.run(definition({"file": file}))
    assert view.state is State.FAILED
    assert view.error is not None
    assert f"[{code}] the audience cannot be read: " in view.error
    assert view.attempt == 1


async def test_variables_have_a_bound(bench: CampaignBench) -> None:
    result = await bench.work(definition(inline(1, name="x" * 20_000)))
    assert (result["queued"], result["skipped"]) == (0, 1)
    assert await bench.reasons() == {"its variables have over 16,384 characters": 1}


# Once


async def test_the_same_campaign_again_does_nothing(bench: CampaignBench) -> None:
    first = await bench.work(definition(inline(5)))
    await bench.sent(5)
    assert await bench.result(definition(inline(5)), "again") == first
    assert await bench.waiting() == 0
    assert len(bench.server.messages) == 5


async def test_another_campaign_of_the_same_name_is_refused(bench: CampaignBench) -> None:
    await bench.work(definition(inline(1)))
    view = await bench.run(definition(inline(2)), "other")
    assert view.state is State.FAILED
    assert (
        view.error
        == "[campaign_differs] campaign 1 has the name 'spring' and another definition; take another name"
    )


async def test_the_same_campaign_twice_at_once_sends_once(bench: CampaignBench) -> None:
    for key in ("a", "b", "c"):
        await bench.add(definition(inline(60)), key)
    await bench.start_pool()
    await bench.start_pool()
    for key in ("a", "b", "c"):
        assert (await bench.harness.finished("campaign", key)).state is State.COMPLETED
    await bench.sent(60)
    await wait_until(lambda: bench.have({"accepted": 60}), 10.0)
    bench.check_once()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("sent_meanwhile", [False, True])
async def test_a_run_that_is_lost_while_it_queues(bench: CampaignBench, after: bool, sent_meanwhile: bool) -> None:
    with pytest.raises(asyncio.CancelledError):
        await run_campaign(bench.context(CutRun(bench.harness.control, after)), payload(inline(20)))
    assert await bench.counts() == {"pending": 20, "queued": 0, "skipped": 0}
    if sent_meanwhile:
        await bench.start_pool("message")
        await bench.sent(20 if after else 0)
    await bench.start_pool()
    assert (await bench.result(definition(inline(20))))["queued"] == 20
    assert len(await bench.sent(20)) == 20
    await wait_until(lambda: bench.have({"accepted": 20}), 10.0)
    await wait_until(lambda: bench.harness.idle("message"), 10.0)
    bench.check_once()


async def test_a_daemon_that_dies_in_the_middle(bench: CampaignBench) -> None:
    first = await bench.harness.start_pool("one", resources=bench.resources)
    await bench.add(definition(inline(150)))
    await wait_until(lambda: len(bench.server.messages) > 20)
    await kill(first)
    await bench.harness.start_pool("one", resources=bench.resources)
    await bench.harness.finished("campaign", KEY, 15.0)
    await wait_until(lambda: bench.harness.idle("message"), 15.0)
    bench.check_once()
    statuses = await bench.statuses()
    assert sum(statuses.values()) == 150
    # The row of one that died while it wrote it still says that it is sent; its job is unknown. This death, unlike
    # that of a process, also lets one say that it did not begin, whose beginning was noted in the store meanwhile.
    assert 150 - statuses["accepted"] <= 10, "those that ran"
    assert set(statuses) <= {"accepted", "unknown", "sending", "retrying"}


async def test_a_drain_gives_the_campaign_back(bench: CampaignBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_pace, "FIRST_AHEAD", 5_000)
    monkeypatch.setattr("crmd.crm.campaigns.sending.ENQUEUE_MAX", 20)
    first = await bench.start_pool("campaign")
    await bench.add(definition(inline(400)))
    await wait_until(lambda: _queued(bench, 20))
    await first.stop(0.0)
    assert (await bench.harness.inspector.job("campaign", KEY)).state is State.WAITING
    assert (await bench.counts())["pending"] > 0
    await bench.start_pool("campaign")
    assert (await bench.harness.finished("campaign", KEY)).result["queued"] == 400
    assert await bench.waiting() == 400


# Paused, resumed, cancelled


async def test_a_paused_campaign_sends_nothing_and_a_resumed_one_the_rest(bench: CampaignBench) -> None:
    await bench.work(definition(inline(30)), "campaign")
    await bench.move("paused")
    first = await bench.start_pool("message")
    await wait_until(lambda: bench.harness.idle("message"))
    assert bench.server.messages == []
    assert await bench.counts() == {"pending": 30, "queued": 0, "skipped": 0}
    [held, *_] = await bench.keys(State.COMPLETED)
    assert held.result == {"message_id": "", "recipient": held.payload["to"][1:], "status": "held"}
    await bench.move("running")
    await bench.result(definition(inline(30)))
    assert len(await bench.sent(30)) == 30
    await wait_until(lambda: bench.have({"accepted": 30}))
    await first.stop(0.0)


async def test_a_run_of_a_paused_campaign_waits(bench: CampaignBench) -> None:
    await bench.work(definition(inline(3)), "campaign")
    await bench.move("paused")
    await bench.add(definition(inline(3)))
    assert (await bench.delayed("the campaign is paused")).attempt == 0
    assert (await bench.campaign()).job_key == KEY
    await bench.move("running")
    await bench.wake()
    assert (await bench.harness.finished("campaign", KEY)).result["status"] == "done"


async def test_messages_begun_before_the_pause_are_not_held(bench: CampaignBench) -> None:
    bench.server.then_hang()
    await bench.start_pool()
    await bench.add(definition(inline(1)))
    await wait_until(lambda: bench.server.messages)
    await bench.move("paused")
    assert (await bench.counts())["queued"] == 1


async def test_a_message_that_is_retried_while_paused_is_held(bench: CampaignBench) -> None:
    bench.server.then_error(131000, status=500)
    await bench.work(definition(inline(1)))
    await wait_until(lambda: bench.server.messages)
    await wait_until(lambda: bench.harness.idle("message"))
    assert await bench.statuses() == {"accepted": 1}, "it was tried again"


async def test_a_cancelled_campaign_sends_no_more(bench: CampaignBench) -> None:
    await bench.work(definition(inline(10)), "campaign")
    await bench.move("cancelled")
    await bench.start_pool("message")
    await wait_until(lambda: bench.harness.idle("message"))
    assert bench.server.messages == []
    failed = await bench.keys(State.FAILED)
    assert len(failed) == 10
    assert {job.error for job in failed} == {
        "[campaign_cancelled] the message's campaign was cancelled or stopped"
    }
    assert (await bench.result(definition(inline(10)), "again"))["status"] == "cancelled"


async def test_a_campaign_cancelled_while_it_queues_ends(
    bench: CampaignBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_pace, "FIRST_AHEAD", 5)
    await bench.work_until("5 of its messages wait", definition(inline(20)), "campaign")
    await bench.move("cancelled")
    await bench.wake()
    view = await bench.harness.finished("campaign", KEY)
    assert view.state is State.COMPLETED
    assert view.result == {"campaign": 1, "status": "cancelled", "total": 20, "queued": 5, "skipped": 0}


# How fast


async def test_only_so_many_messages_wait_at_once(bench: CampaignBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_pace, "FIRST_AHEAD", 10)
    monkeypatch.setattr(campaign_pace, "LEAST_AHEAD", 10)
    monkeypatch.setattr(campaign_pace, "SHORTEST_LOOK_SECONDS", 0.05)
    view = await bench.work_until("10 of its messages wait to be sent", definition(inline(40)), "campaign")
    assert (view.attempt, await bench.waiting()) == (0, 10)
    await bench.start_pool("message")
    assert len(await bench.sent(40)) == 40
    assert (await bench.harness.finished("campaign", KEY)).result["queued"] == 40


async def test_where_nothing_moves_for_long_a_few_more_are_tried(
    bench: CampaignBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_pace, "FIRST_AHEAD", 10)
    monkeypatch.setattr(campaign_pace, "PROBE", 3)
    await bench.work_until("10 of its messages wait", definition(inline(40)), "campaign")
    await bench.age(backpressure=timedelta(minutes=11))
    await bench.wake()
    await bench.delayed("13 of its messages wait")


async def test_a_campaign_may_have_a_rate_of_its_own(bench: CampaignBench) -> None:
    await bench.work(definition(inline(6), rate="2/s"), "campaign")
    jobs = await bench.keys(State.DELAYED)
    starts = sorted(job.run_at for job in jobs if job.run_at)
    assert len(starts) >= 4
    apart = [later - sooner for sooner, later in pairwise(starts)]
    assert apart == pytest.approx([0.5] * len(apart), abs=0.01)


async def test_with_a_slow_rate_the_campaign_waits_for_the_next_time(bench: CampaignBench) -> None:
    await bench.work_until(
        "by its rate of 1/min the next message is later", definition(inline(6), rate="1/min"), "campaign"
    )
    assert await bench.counts() == {"pending": 5, "queued": 1, "skipped": 0}
    await bench.age(next_at=timedelta(0))
    await bench.wake()
    await wait_until(lambda: _queued(bench, 2))


async def test_messages_get_the_priority(bench: CampaignBench) -> None:
    await bench.work(definition(inline(2), message_priority=7), "campaign")
    assert [job.priority for job in await bench.keys(State.WAITING)] == [7, 7]


# The first few


CANARY = {"count": 4, "max_failure_share": 0.25, "wait": "1h"}


async def test_too_many_failures_of_the_first_stop_the_campaign(
    bench: CampaignBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crmd.crm.campaigns.sending.LOOK_SECONDS", 0.05)
    for _ in range(2):
        bench.server.then_error(131026)
    await bench.start_pool()
    view = await bench.run(definition(inline(20), canary=CANARY))
    assert view.state is State.FAILED
    assert (
        view.error == "[campaign_stopped] the campaign is stopped: 2 of the first 4 messages failed, more than 25%"
    )
    campaign = await bench.campaign()
    assert (campaign.status, campaign.reason) == ("stopped", "2 of the first 4 messages failed, more than 25%")
    assert await bench.counts() == {"pending": 16, "queued": 4, "skipped": 0}
    again = await bench.run(definition(inline(20), canary=CANARY), "again")
    assert again.state is State.FAILED
    assert "was stopped: 2 of the first 4" in (again.error or "")


async def test_the_others_follow_once_the_first_are_delivered(bench: CampaignBench) -> None:
    bench.server.then_error(131026)
    await bench.work_until("of the first 4 messages are under way", definition(inline(20), canary=CANARY))
    await wait_until(lambda: bench.have({"accepted": 3, "failed": 1}))
    assert await bench.counts() == {"pending": 16, "queued": 4, "skipped": 0}
    await _deliver_all(bench)
    await bench.wake()
    assert (await bench.harness.finished("campaign", KEY)).result["queued"] == 20
    await bench.sent(20)


async def test_the_others_follow_when_the_time_is_up(bench: CampaignBench) -> None:
    await bench.work_until("of the first 4 messages are under way", definition(inline(20), canary=CANARY))
    await bench.age(canary_since=timedelta(hours=1))
    await bench.wake()
    assert (await bench.harness.finished("campaign", KEY)).result["queued"] == 20


async def test_skipped_recipients_are_none_of_the_first(bench: CampaignBench) -> None:
    audience = inline(8)
    for one in audience["recipients"][:4]:
        one["variables"] = {}
    await bench.work_until(
        "2 of the first 2 messages are under way", definition(audience, canary={**CANARY, "count": 2}), "campaign"
    )
    assert await bench.counts() == {"pending": 2, "queued": 2, "skipped": 4}


# What is unavailable


async def test_without_the_database_the_campaign_waits(bench: CampaignBench) -> None:
    ctx = bench.context()
    await bench.database.stop()
    with pytest.raises(Snooze, match="goes on where it was: the records are"):
        await run_campaign(ctx, payload(inline(1)))


async def test_with_a_full_store_the_campaign_waits(bench: CampaignBench) -> None:
    with pytest.raises(Snooze, match="memory is 90% full"):
        await run_campaign(bench.context(FullRun(bench.harness.control)), payload(inline(3)))
    assert await bench.counts() == {"pending": 3, "queued": 0, "skipped": 0}


async def test_near_its_timeout_the_campaign_gives_its_place_up(bench: CampaignBench) -> None:
    with pytest.raises(Snooze, match="the timeout is near") as caught:
        await run_campaign(bench.context(timeout_seconds=5.0), payload(inline(3)))
    assert caught.value.after == 0


async def test_progress_is_told(bench: CampaignBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.campaigns.sending.ENQUEUE_MAX", 4)
    run = StoredRun(bench.harness.control)
    await run_campaign(bench.context(run), payload(inline(10)))
    told = [(round(fraction, 2), note) for fraction, note in run.progress_notes[-3:]]
    assert told == [(0.4, "4 of 10 recipients"), (0.8, "8 of 10 recipients"), (1.0, "10 of 10 recipients")]


async def _deliver_all(bench: CampaignBench) -> None:
    async with bench.database.transaction() as s:
        for message in await messages.page(s, messages.MessageFilter(status="accepted"), None, 100):
            await apply_status(s, StatusUpdate(message.wamid or "", "delivered", utc_now()))


async def _queued(bench: CampaignBench, count: int) -> bool:
    try:
        return (await bench.counts())["queued"] >= count
    except Exception:
        return False
