"""`notify` reaches people by the log, and by Apprise over real local servers; a group goes out as one message."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from crmd.crm.database.database import Database
from crmd.crm.notifications import repository as notifications
from crmd.crm.notifications.client import Channel, NotifyClient
from crmd.crm.notifications.jobs import flush_notifications, notify
from crmd.crm.notifications.payloads import FlushNotifications, Notify
from crmd.engine.admin.views import NewJob, State
from crmd.engine.settings import Backoff, QueueSettings
from crmd.errors import Permanent, Retry
from crmd.telemetry import logs
from crmd.telemetry.logs import formatter
from tests.support.context import RecordedRun, make_context
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.services import MailServer, NotifySite
from tests.support.started import started
from tests.support.wait import HANG_S, cancel_once, wait_until

SECRET = "tok3n-that-nobody-may-see"


@pytest.fixture
async def site() -> AsyncIterator[NotifySite]:
    async with started(NotifySite()) as made:
        yield made


@pytest.fixture
async def client(site: NotifySite) -> AsyncIterator[NotifyClient]:
    channels = {
        "team": Channel(SecretStr(site.channel(SECRET))),
        "pager": Channel(SecretStr(site.channel("pager")), "error"),
        "gone": Channel(SecretStr(f"json://user:{SECRET}@127.0.0.1:1/{SECRET}")),
        "wrong": Channel(SecretStr(f"slack://{SECRET}")),
    }
    async with started(NotifyClient(channels, timeout_seconds=5.0, group_window_seconds=60.0)) as made:
        yield made


async def run(*resources: object, run: RecordedRun | None = None, **payload: Any) -> Mapping[str, Any]:
    context = make_context(*resources, queue="notification", name="notify", run=run)
    return await notify(context, Notify.model_validate({"message": "m", **payload}))


@pytest.mark.parametrize(
    ("level", "number"), [("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)]
)
async def test_it_logs_one_line_of_that_level(caplog: pytest.LogCaptureFixture, level: str, number: int) -> None:
    caplog.set_level(logging.INFO)
    result = await run(title="Quota", message="80 % of the messages are used", level=level)
    assert result == {"channel": "log", "level": level, "outcome": "sent"}
    [record] = caplog.records
    assert record.levelno == number
    assert record.getMessage() == "notification: Quota: 80 % of the messages are used"
    assert record.__dict__["fields"] == {"channel": "log", "level": level}


async def test_the_text_cannot_pass_itself_off_as_other_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await run(message="été 🦊\n2026-01-01 ERROR forged\x1b[31m\u2028end")
    [record] = caplog.records
    assert record.getMessage() == "notification: été 🦊\\n2026-01-01 ERROR forged\\x1b[31m\\u2028end"
    assert len(formatter("text").format(record).splitlines()) == 1


@pytest.mark.parametrize(
    "payload",
    [
        {"message": ""},
        {"message": " \n"},
        {"message": "x" * 4001},
        {"level": "loud"},
        {"channel": "Not a name"},
        {"group": " "},
        {"group": "x" * 201},
    ],
)
def test_bad_payloads_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Notify.model_validate({"message": "m", **payload})


# Channels


@pytest.mark.parametrize(("level", "kind"), [("info", "info"), ("warning", "warning"), ("error", "failure")])
async def test_a_channel_gets_title_text_and_level(
    site: NotifySite, client: NotifyClient, level: str, kind: str
) -> None:
    text = "80 % <b>used</b> & {{ more }}\nsecond line 🦊"
    result = await run(client, channel="team", title="Quota", message=text, level=level)
    assert result == {"channel": "team", "level": level, "outcome": "sent"}
    [got] = site.received
    assert (got["title"], got["message"], got["type"]) == ("Quota", text, kind)


async def test_a_mail_channel(client: NotifyClient) -> None:
    async with started(MailServer()) as server:
        address = f"mailto://127.0.0.1:{server.port}?from=crmd@example.com&to=ops@example.com&mode=insecure"
        async with started(NotifyClient({"mail": Channel(SecretStr(address))})) as mail:
            await run(mail, channel="mail", title="Quota", message="1 < 2")
    [arrived] = server.arrived
    assert arrived.recipients == ["ops@example.com"]
    assert arrived.message["Subject"] == "Quota"
    assert "1 &lt; 2" in arrived.content.decode() or "1 < 2" in arrived.content.decode()


@pytest.mark.parametrize(("level", "outcome"), [("warning", "below_level"), ("error", "sent")])
async def test_a_channel_gets_its_level_and_above(
    site: NotifySite, client: NotifyClient, level: str, outcome: str
) -> None:
    result = await run(client, channel="pager", level=level)
    assert (result["outcome"], len(site.received)) == (outcome, int(outcome == "sent"))


async def test_an_unknown_channel_is_told_with_the_list(client: NotifyClient) -> None:
    with pytest.raises(Permanent, match="no channel is named 'pgaer'; there are: log, team, pager, gone, wrong"):
        await run(client, channel="pgaer")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_refusal_is_tried_again(site: NotifySite, client: NotifyClient, status: int) -> None:
    site.then(status)
    with pytest.raises(Retry, match=f"channel team: .*{status}"):
        await run(client, channel="team")
    assert (await run(client, channel="team"))["outcome"] == "sent"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a daemon would write to its log at the level debug."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in ("", *logs.QUIET)}
    logs.setup("debug", "json", stream=stream, environ={})
    yield stream
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


async def test_what_is_wrong_with_a_channel_is_told_without_its_secrets(
    client: NotifyClient, log: io.StringIO
) -> None:
    with pytest.raises(Retry) as away:
        await run(client, channel="gone")
    with pytest.raises(Permanent) as wrong:
        await run(client, channel="wrong")
    await run(client, channel="team")
    said = f"{away.value} {wrong.value} {log.getvalue()}"
    assert "channel gone: A Connection error occurred" in said
    assert "channel wrong: Apprise does not understand its URL" in said
    assert SECRET not in said
    assert '"logger": "apprise' not in said


async def test_a_channel_that_does_not_answer_costs_no_more_than_its_time(
    site: NotifySite, client: NotifyClient
) -> None:
    await run(client, channel="team")  # Apprise is loaded
    site.then_hang(100)
    client.timeout_seconds = 0.3
    began = time.monotonic()
    with pytest.raises(Retry, match=r"no answer within 0\.3 s|error"):
        await run(client, channel="team")
    assert time.monotonic() - began < HANG_S


async def test_it_leaves_the_event_loop_free_and_can_be_cancelled(site: NotifySite, client: NotifyClient) -> None:
    await run(client, channel="team")
    site.then_hang(100)
    await cancel_once(lambda: len(site.received) == 2, run(client, channel="team"))
    site.release()
    assert (await run(client, channel="team"))["outcome"] == "sent"


async def test_stopping_does_not_wait_for_a_channel_that_hangs(site: NotifySite, client: NotifyClient) -> None:
    await run(client, channel="team")
    site.then_hang(100)
    task = asyncio.create_task(run(client, channel="team"))
    await wait_until(lambda: len(site.received) == 2)
    began = time.monotonic()
    await client.stop()
    await client.stop()
    assert time.monotonic() - began < HANG_S
    site.release()
    await task


# Groups


class Bench:
    """Runs notifications of a group, each as a job of its own, and the job that sends them together."""

    def __init__(self, database: Database, client: NotifyClient, site: NotifySite) -> None:
        self.database, self.client, self.site = database, client, site
        self.engine = RecordedRun()

    async def notify(self, number: int, **payload: Any) -> Mapping[str, Any]:
        given = {"message": f"message {number}", "group": "imports", "channel": "team", **payload}
        context = make_context(
            self.database, self.client, queue="notification", name="notify", key=f"job-{number}", run=self.engine
        )
        return await notify(context, Notify.model_validate(given))

    async def flush(self) -> Mapping[str, Any]:
        context = make_context(self.database, self.client, queue="notification", run=self.engine)
        return await flush_notifications(context, FlushNotifications(channel="team", group="imports"))

    @property
    def flushes(self) -> list[tuple[str, datetime]]:
        """The jobs that were added, by key and time."""
        return [(options["key"], options["at"]) for _, _, _, options in self.engine.enqueued]


@pytest.fixture
def bench(database: Database, client: NotifyClient, site: NotifySite) -> Bench:
    return Bench(database, client, site)


async def test_a_storm_becomes_one_message_with_the_first_texts(bench: Bench) -> None:
    before = datetime.now(UTC)
    for number in range(1, 41):
        level = "error" if number == 30 else "info"
        assert (await bench.notify(number, title=f"T{number}", level=level))["outcome"] == "grouped"
    assert bench.site.received == []
    [(key, at)] = set(bench.flushes)
    assert key.startswith("flush:team:")
    assert timedelta(seconds=59) < at - before < timedelta(seconds=70)
    assert await bench.flush() == {"channel": "team", "level": "error", "outcome": "sent"}
    [got] = bench.site.received
    assert (got["title"], got["type"]) == ("imports: 40 notifications", "failure")
    lines = got["message"].split("\n")
    assert lines == [*(f"- T{number}: message {number}" for number in range(1, 6)), "… and 35 more"]


async def test_a_single_one_goes_out_as_it_is(bench: Bench) -> None:
    await bench.notify(1)
    await bench.flush()
    assert bench.site.texts == ["message 1"]


async def test_a_job_that_runs_twice_counts_once(bench: Bench) -> None:
    for number in (1, 2, 1, 2, 2):
        await bench.notify(number)
    await bench.flush()
    assert bench.site.received[0]["title"] == "imports: 2 notifications"


async def test_a_flush_that_runs_twice_sends_once(bench: Bench) -> None:
    await bench.notify(1)
    await bench.flush()
    assert await bench.flush() == {"channel": "team", "level": "info", "outcome": "nothing"}
    assert len(bench.site.received) == 1


async def test_where_the_channel_fails_everything_waits_and_goes_out_later(bench: Bench) -> None:
    await bench.notify(1)
    bench.site.then(503)
    with pytest.raises(Retry):
        await bench.flush()
    await bench.notify(2)
    assert len(set(bench.flushes)) == 1, "the same job is asked for, which begins anew if it has failed for good"
    await bench.flush()
    assert bench.site.received[1]["title"] == "imports: 2 notifications"


async def test_what_comes_while_the_message_goes_out_is_not_lost(bench: Bench) -> None:
    await bench.notify(1)
    await bench.notify(2)
    bench.site.then_hang(100)
    flush = asyncio.create_task(bench.flush())
    await wait_until(lambda: bench.site.received)
    await bench.notify(3)
    bench.site.release()
    await flush
    assert len({key for key, _ in bench.flushes}) == 2, "what came later has a job of its own"
    await bench.flush()
    assert bench.site.texts == ["- message 1\n- message 2", "message 3"]


async def test_a_flush_that_is_cancelled_is_done_by_the_next(bench: Bench) -> None:
    await bench.notify(1)
    bench.site.then_hang(100)
    await cancel_once(lambda: bench.site.received, bench.flush())
    bench.site.release()
    assert (await bench.flush())["outcome"] == "sent"


async def test_groups_and_channels_are_apart(bench: Bench) -> None:
    await bench.notify(1)
    await bench.notify(2, group="exports")
    await bench.notify(3, channel="pager", level="error")
    await bench.flush()
    assert bench.site.texts == ["message 1"]
    assert len(set(bench.flushes)) == 3


async def test_what_waited_for_a_week_is_no_news(bench: Bench) -> None:
    async with bench.database.transaction() as s:
        for age in (8, 1):
            now = datetime.now(UTC) - timedelta(days=age)
            job = (f"old-{age}", now)
            await notifications.add(s, "team", "imports", job=job, level="info", text=f"{age} days", now=now)
    await bench.flush()
    assert bench.site.texts == ["1 days"]


async def test_the_log_groups_too(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bench.notify(1, channel="log")
    await bench.notify(2, channel="log")
    assert caplog.records == []
    context = make_context(bench.database, bench.client, queue="notification", run=bench.engine)
    await flush_notifications(context, FlushNotifications(channel="log", group="imports"))
    [record] = caplog.records
    expected = "notification: imports: 2 notifications: - message 1\\n- message 2"
    assert record.getMessage() == expected


# Through the engine


async def test_a_storm_of_jobs_makes_one_message(
    store_url: str, database: Database, client: NotifyClient, site: NotifySite
) -> None:
    async with engine_harness(
        store_url, QueueSettings("notification", attempts=2, backoff=Backoff(0.01, 0.01))
    ) as engine:
        engine.handle_jobs(notify, flush_notifications)
        await engine.start_pool(resources={Database: database, NotifyClient: client})
        site.then(503)
        payloads = [{"message": f"import {n} failed", "group": "imports", "channel": "team"} for n in range(30)]
        await engine.control.enqueue("notification", [NewJob("notify", payload) for payload in payloads])
        await wait_until(lambda: done(engine, completed=30, delayed=1), 30)
        [flush] = (await engine.inspector.jobs("notification", State.DELAYED)).jobs
        await engine.control.promote("notification", flush.key)
        await wait_until(lambda: done(engine, completed=31, delayed=0), 30)
        assert [one["title"] for one in site.received] == ["imports: 30 notifications"] * 2, (
            "the first was refused"
        )


async def done(engine: EngineHarness, *, completed: int, delayed: int) -> bool:
    counts = await engine.inspector.counts("notification")
    return (counts.completed, counts.delayed, counts.waiting, counts.active) == (completed, delayed, 0, 0)
