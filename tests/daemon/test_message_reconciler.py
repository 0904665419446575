"""Messages whose job ended without a word, and unknown jobs whose message is known: each learns from the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.consent.keywords import ConsentKeywords
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.inbound.jobs import whatsapp_event
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Outgoing, begin
from crmd.crm.messages.jobs import send_message
from crmd.crm.messages.queries import Status
from crmd.crm.messages.reconciler import MessageReconciler
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.statuses import StatusUpdate
from crmd.crm.messages.tables import Message
from crmd.crm.messages.unknown_jobs import Settled, UnknownJobs
from crmd.crm.outbound.http import HttpClient
from crmd.crm.schema import SCHEMA
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.engine.admin.views import JobView, NewJob, State
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import QueueSettings
from crmd.errors import OutcomeUnknown, Permanent, RecordsUnavailable
from tests.support.engine_harness import EngineHarness, engine_harness, kill
from tests.support.meta import event, failure, status
from tests.support.services import NUMBER_ID, TOKEN, VERSION, WhatsAppServer
from tests.support.started import started
from tests.support.wait import wait_until

PHONE = "+4915112345678"
LONG_AGO = timedelta(hours=1)
QUEUES = (QueueSettings("message", attempts=2), QueueSettings("webhook"))


@dataclass
class Post:
    """A store, a database, a stand-in of WhatsApp, and the part under test."""

    harness: EngineHarness
    database: Database
    server: WhatsAppServer
    resources: dict[type, Any]
    lost: MessageReconciler
    pools: list[WorkerPool] = field(default_factory=list)

    async def start_pool(self, identity: str = "daemon") -> WorkerPool:
        return await self.harness.start_pool(identity, resources=self.resources)

    async def send(self, key: str) -> None:
        await self.harness.control.enqueue(
            "message", [NewJob("send_message", {"to": PHONE, "text": "hi"}, key=key)]
        )

    async def job(self, key: str, queue: str = "message") -> JobView:
        return await self.harness.inspector.job(queue, key)

    async def put(self, key: str, standing: Status, *, enqueued_at: datetime | None = None) -> int:
        """A message that stands so for long, and belongs to the job of this key."""
        if enqueued_at is None:
            enqueued_at = datetime.fromtimestamp((await self.job(key)).enqueued_at or 0, UTC)
        async with self.database.transaction() as s:
            new = Outgoing(PHONE, "text", "hi", "message", key, enqueued_at)
            begun = await begin(s, CampaignGate(), new, utc_now() - LONG_AGO)
            message = await s.get_one(Message, begun.message_id)
            message.status = standing.value
            if standing in (Status.SENT, Status.READ):
                message.wamid = f"wamid.{key}"
        return begun.message_id

    async def row(self, message_id: int) -> Message:
        async with self.database.reading() as s:
            return await s.get_one(Message, message_id)

    async def rows(self) -> list[Message]:
        async with self.database.reading() as s:
            return await messages.page(s, messages.MessageFilter(), None, 100)

    async def tell(self, *updates: dict[str, Any]) -> None:
        """A status webhook, through the queue."""
        [added] = await self.harness.control.enqueue(
            "webhook", [NewJob("whatsapp_event", event(statuses=[*updates]))]
        )
        view = await self.harness.control.wait("webhook", added.key, 10)
        assert view.state is State.COMPLETED, view.error


@pytest.fixture
async def post(store_url: str, tmp_path: Path) -> AsyncIterator[Post]:
    async with (
        started(Database("", SCHEMA, folder=tmp_path)) as database,
        started(HttpClient()) as http,
        started(WhatsAppServer()) as server,
        engine_harness(store_url, *QUEUES) as engine,
    ):
        whatsapp = WhatsAppClient(
            http, base_url=server.url, api_version=VERSION, phone_number_id=NUMBER_ID, token=SecretStr(TOKEN)
        )
        engine.handle_jobs(send_message, whatsapp_event)
        settler = UnknownJobs(engine.inspector)
        given = (database, whatsapp, MessageRepository(database, CampaignGate()), ConsentKeywords((), ()), settler)
        lost = MessageReconciler(database, engine.inspector, settler, engine.store.events)
        yield Post(engine, database, server, {type(one): one for one in given}, lost)
        await lost.stop()


def told(wamid: str, key: str) -> StatusUpdate:
    return StatusUpdate(wamid, "sent", utc_now(), job_key=key)


async def ended(post: Post, key: str, ending: Any) -> None:
    """A job that ended so, whose message knows nothing of it."""

    async def end(_context: Any) -> Any:
        if isinstance(ending, Exception):
            raise ending
        return ending

    post.harness.handle("message", "other", end)
    pool = await post.start_pool()
    await post.harness.control.enqueue("message", [NewJob("other", key=key)])
    await post.harness.finished("message", key)
    await pool.stop(0.0)


# A daemon that dies in the middle of a send


async def die_while_sending(post: Post, key: str) -> None:
    """What kill -9 leaves behind; here the handler still hears of it, and its last word is taken back."""
    await post.lost.start()
    pool = await post.start_pool()
    post.server.then_hang()
    await post.send(key)
    await wait_until(lambda: post.server.messages)
    await kill(pool)
    await wait_until(lambda: _stands(post, "unknown"))
    async with post.database.transaction() as s:
        await s.execute(update(Message).values(status=Status.SENDING.value, error=None))


async def send_unanswered(post: Post, key: str) -> None:
    """A message whose outcome is unknown."""
    post.server.then_drop()
    await post.start_pool()
    await post.send(key)
    await post.harness.finished("message", key)


async def test_a_message_of_a_dead_daemon_is_unknown_and_a_status_settles_it_and_its_job(post: Post) -> None:
    await die_while_sending(post, "order-17")

    await post.start_pool()
    await wait_until(lambda: _stands(post, "unknown"))
    assert (await post.job("order-17")).state is State.UNKNOWN
    assert len(post.server.messages) == 1, "nobody is messaged twice"

    await post.tell(status("wamid.A", "delivered", biz_opaque_callback_data="order-17"))
    [row] = await post.rows()
    assert (row.status, row.wamid) == ("delivered", "wamid.A")
    view = await post.job("order-17")
    assert (view.state, view.error) == (State.COMPLETED, None)
    assert view.result == {"message_id": "wamid.A", "recipient": PHONE[1:], "status": "delivered"}
    assert [entry.event for entry in view.timeline][-1] == "settled"


async def test_a_status_that_comes_before_the_recovery_settles_the_job_after_it(post: Post) -> None:
    await die_while_sending(post, "order-17")
    repository: MessageRepository = post.resources[MessageRepository]
    await repository.apply_statuses([told("wamid.A", "order-17")])
    await post.start_pool()
    await wait_until(lambda: _job_is(post, "order-17", State.COMPLETED))
    assert [row.status for row in await post.rows()] == ["sent"]


async def test_a_failure_told_by_webhook_fails_the_unknown_job(post: Post) -> None:
    await send_unanswered(post, "order-17")
    await post.tell(failure("wamid.A", 131026, biz_opaque_callback_data="order-17"))
    view = await post.job("order-17")
    assert (view.state, view.error) == (State.FAILED, "WhatsApp error 131026: details of 131026")
    assert (await post.harness.inspector.counts("message")).unknown == 0


async def test_a_job_that_was_added_again_is_not_settled_by_an_old_message(post: Post) -> None:
    await send_unanswered(post, "order-17")
    [first] = await post.rows()
    post.server.then_drop()
    await wait_until(lambda: utc_now() > (first.job_enqueued_at or utc_now()))
    await post.harness.control.retry("message", "order-17")
    await wait_until(lambda: len(post.server.messages) == 2)
    await post.harness.finished("message", "order-17")
    repository: MessageRepository = post.resources[MessageRepository]
    settler: UnknownJobs = post.resources[UnknownJobs]
    [newer, older] = await repository.apply_statuses([told("wamid.B", "order-17"), told("wamid.A", "order-17")])
    assert newer is not None
    assert older is not None
    assert older.message_id == first.id
    at = older.job_enqueued_at
    assert at is not None
    assert not await settler.settle(Settled("message", "order-17", at, result={}))
    assert (await post.job("order-17")).state is State.UNKNOWN


# The sweep


async def test_a_message_learns_from_its_job(post: Post) -> None:
    endings: dict[str, tuple[Any, str, str | None]] = {
        "sent": ({"message_id": "wamid.X", "recipient": "1", "status": "accepted"}, "accepted", None),
        "failed": (Permanent("no such number", code="131026"), "failed", "job_failed"),
        "unknown": (OutcomeUnknown("no answer"), "unknown", None),
    }
    for key, (ending, stands, code) in endings.items():
        await ended(post, key, ending)
        message_id = await post.put(key, Status.SENDING)
        assert await post.lost.run_once() == 1
        row = await post.row(message_id)
        assert (row.status, row.error_code) == (stands, code)
    assert {row.wamid for row in await post.rows()} == {"wamid.X", None}
    assert await post.lost.run_once() == 0


async def test_a_message_whose_job_is_gone(post: Post) -> None:
    sending = await post.put("gone", Status.SENDING, enqueued_at=utc_now())
    retrying = await post.put("gone too", Status.RETRYING, enqueued_at=utc_now())
    assert await post.lost.run_once() == 2
    assert (await post.row(sending)).status == "unknown"
    row = await post.row(retrying)
    assert (row.status, row.error_code) == ("failed", "job_gone")


async def test_a_key_that_was_used_again_says_nothing_of_the_message(post: Post) -> None:
    await ended(post, "again", {"message_id": "wamid.new", "recipient": "1", "status": "accepted"})
    message_id = await post.put("again", Status.SENDING, enqueued_at=utc_now() - LONG_AGO)
    await post.lost.run_once()
    assert ((await post.row(message_id)).status, (await post.row(message_id)).wamid) == ("unknown", None)


async def test_what_waits_is_left_alone(post: Post) -> None:
    await post.harness.control.enqueue("message", [NewJob("send_message", {}, key="later", delay=3600)])
    await post.send("now")
    ids = [await post.put("later", Status.RETRYING), await post.put("now", Status.SENDING)]
    assert await post.lost.run_once() == 0
    assert [(await post.row(one)).status for one in ids] == ["retrying", "sending"]


async def test_a_cancelled_job_does_not_leave_its_message_to_wait_for_ever(post: Post) -> None:
    await post.send("order-17")
    message_id = await post.put("order-17", Status.RETRYING)
    await post.harness.control.cancel("message", "order-17", "not wanted")
    assert await post.lost.run_once() == 1
    row = await post.row(message_id)
    assert (row.status, row.error_code, row.error) == ("failed", "job_cancelled", "not wanted")


async def test_a_message_held_by_its_campaign_is_left_alone(post: Post) -> None:
    await ended(post, "held", {"message_id": "", "recipient": "1", "status": "held"})
    message_id = await post.put("held", Status.RETRYING)
    assert await post.lost.run_once() == 0
    assert (await post.row(message_id)).status == "retrying"


async def test_an_unknown_job_learns_from_its_message(post: Post) -> None:
    for key, stands, state in (("a", Status.READ, State.COMPLETED), ("b", Status.FAILED, State.FAILED)):
        await ended(post, key, OutcomeUnknown("no answer"))
        await post.put(key, stands)
        assert await post.lost.run_once() == 1
        assert (await post.job(key)).state is state
    await ended(post, "c", OutcomeUnknown("no answer"))
    await post.put("c", Status.UNKNOWN)
    await ended(post, "d", OutcomeUnknown("no answer"))
    assert await post.lost.run_once() == 0
    assert (await post.job("c")).state is (await post.job("d")).state is State.UNKNOWN


async def test_many_are_looked_at_batch_by_batch(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.messages.reconciler.BATCH", 2)
    for number in range(5):
        await post.put(f"gone-{number}", Status.SENDING, enqueued_at=utc_now())
    assert [await post.lost.run_once() for _ in range(4)] == [2, 2, 1, 0]


async def test_it_bears_a_database_that_is_unavailable_and_goes_on(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("crmd.crm.messages.reconciler.TRY_AGAIN_S", 0.01)
    monkeypatch.setattr("crmd.crm.messages.reconciler.SWEEP_EVERY_S", 0.05)
    message_id = await post.put("gone", Status.SENDING, enqueued_at=utc_now())
    await post.database.stop()
    with pytest.raises(RecordsUnavailable):
        await post.lost.run_once()
    await post.lost.start()
    await wait_until(lambda: "looked at later" in caplog.text)
    await post.database.start()
    await wait_until(lambda: _row_is(post, message_id, "unknown"))


async def test_it_bears_any_order_of_start_and_stop(post: Post) -> None:
    await post.lost.stop()
    await post.lost.start()
    await post.lost.start()
    await post.lost.stop()
    await post.lost.stop()
    await post.lost.start()
    message_id = await post.put("gone", Status.SENDING, enqueued_at=utc_now())
    post.harness.store.events.emit("job.unknown", queue="message", key="gone")
    await wait_until(lambda: _row_is(post, message_id, "unknown"))


async def _stands(post: Post, stands: str) -> bool:
    return [row.status for row in await post.rows()] == [stands]


async def _row_is(post: Post, message_id: int, stands: str) -> bool:
    return (await post.row(message_id)).status == stands


async def _job_is(post: Post, key: str, state: State) -> bool:
    return (await post.job(key)).state is state
