"""Events for endpoints of the configuration: fan-out, secrets of their own, and disabling."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from crmd.config.tables import EndpointTable
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.webhooks.jobs import Delivered, DeliverWebhook, PublishEvent, deliver_webhook, publish_event
from crmd.crm.webhooks.repository import EndpointStatus
from crmd.engine.admin.views import State
from crmd.engine.settings import Backoff, QueueSettings
from crmd.errors import JobSignal, Permanent, Retry, Snooze
from tests.support.context import RecordedRun, make_context
from tests.support.database import commit, fetch
from tests.support.engine_harness import engine_harness
from tests.support.raised import raised
from tests.support.services import SECRET, Receiver
from tests.support.started import started
from tests.support.wait import wait_until

OWN_SECRET = f"whsec_{'QUJD' * 8}"


class Bench:
    """Two receivers, one of them with a secret of its own, and a third endpoint that nobody serves."""

    def __init__(self, database: Database, shop: Receiver, desk: Receiver) -> None:
        self.database, self.shop, self.desk = database, shop, desk
        self.client = self.make_client()

    def make_client(self, **settings: Any) -> WebhookClient:
        tables = {
            "shop": EndpointTable(
                url=f"{self.shop.url}/hook", secret=SecretStr(OWN_SECRET), events=("order.*", "contact.created")
            ),
            "desk": EndpointTable(url=f"{self.desk.url}/"),
            "stock": EndpointTable(url="http://127.0.0.1:9/", events=("stock.*",)),
        }
        defaults: dict[str, Any] = {
            "secret": SecretStr(SECRET),
            "endpoints": tables,
            "disable_after_seconds": 86_400.0,
            "allow_private": ["127.0.0.1/32"],
        }
        return WebhookClient(**{**defaults, **settings})

    async def use(self, **settings: Any) -> None:
        """Another client in place of the one before."""
        await self.client.stop()
        self.client = self.make_client(**settings)
        await self.client.start()

    async def deliver(self, endpoint: str, **fields: Any) -> Delivered:
        payload = DeliverWebhook.model_validate({"endpoint": endpoint, "event": "order.paid", **fields})
        context = make_context(self.client, self.database, queue="webhook", name="deliver_webhook", attempts=5)
        return await deliver_webhook(context, payload)

    async def status(self, name: str) -> EndpointStatus:
        return await fetch(self.database, endpoints.status, name)

    async def fail_since(self, name: str, ago: timedelta) -> None:
        """As if it had failed since then."""
        await commit(self.database, endpoints.note_failure, name, utc_now() - ago, "before", disable_after=None)

    async def publish(self, run: RecordedRun, **context: Any) -> Any:
        payload = PublishEvent(event="order.paid", data={"id": 17})
        settings = {"queue": "webhook", "name": "publish_event", "run": run, **context}
        return await publish_event(make_context(self.client, self.database, **settings), payload)


@pytest.fixture
async def bench(sqlite_database: Database, receiver: Receiver) -> AsyncIterator[Bench]:
    async with started(Receiver(OWN_SECRET)) as shop:
        made = Bench(sqlite_database, shop, receiver)
        await made.client.start()
        yield made
        await made.client.stop()


async def test_each_endpoint_has_its_url_and_secret(bench: Bench) -> None:
    await bench.deliver("shop", data={"id": 17})
    await bench.deliver("desk")
    [shop], [desk] = bench.shop.received, bench.desk.received
    assert (shop.verified, shop.path, shop.body["data"]) == (True, "/hook", {"id": 17})
    assert (desk.verified, desk.path) == (True, "/")


async def test_an_endpoint_with_a_secret_needs_no_common_one(bench: Bench) -> None:
    await bench.use(secret=SecretStr(""))
    await bench.deliver("shop")
    await raised(Snooze, bench.deliver("desk"))


async def test_an_endpoint_that_is_none_ends_the_job(bench: Bench) -> None:
    await raised(Permanent, bench.deliver("shops"), "there are: shop, desk, stock")


@pytest.mark.parametrize("fields", [{}, {"url": "https://example.com/", "endpoint": "shop"}, {"endpoint": "A b"}])
def test_exactly_one_target(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook.model_validate({"event": "order.paid", **fields})


def test_a_mistake_in_an_endpoint_is_named() -> None:
    with pytest.raises(ValueError, match=r"webhook\.endpoints\.shop\.url has no valid host"):
        WebhookClient(secret=SecretStr(SECRET), endpoints={"shop": EndpointTable(url="http://a%20b/")})


async def test_failures_are_noted_and_a_success_forgets_them(bench: Bench) -> None:
    bench.shop.then(500)
    bench.shop.then(404)
    await raised(Retry, bench.deliver("shop"))
    since = (await bench.status("shop")).failing_since
    assert since is not None
    await raised(Permanent, bench.deliver("shop"))
    assert (await bench.status("shop")).failing_since == since
    await bench.deliver("shop")
    assert await bench.status("shop") == EndpointStatus()


async def test_an_endpoint_that_fails_for_too_long_is_disabled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.fail_since("stock", timedelta(hours=25))
    await raised(Retry, bench.deliver("stock"))
    assert "endpoint stock gets no more events" in caplog.text
    signal = await raised(Permanent, bench.deliver("stock"), "POST /api/v1/webhook-endpoints/stock/enable")
    assert signal.code == "endpoint_disabled"


async def test_not_before_its_time_and_never_where_so_configured(bench: Bench) -> None:
    await bench.fail_since("stock", timedelta(hours=23))
    await raised(JobSignal, bench.deliver("stock"))
    assert (await bench.status("stock")).disabled_at is None
    await bench.fail_since("desk", timedelta(days=400))
    await bench.use(disable_after_seconds=None)
    bench.desk.then(410)
    await raised(JobSignal, bench.deliver("desk"))
    assert (await bench.status("desk")).disabled_at is None


async def test_gone_disables_at_once(bench: Bench) -> None:
    bench.desk.then(410, "no more")
    await raised(Permanent, bench.deliver("desk"))
    status = await bench.status("desk")
    assert status.disabled_at is not None
    assert "410" in (status.reason or "")


async def test_events_are_delivered_where_the_database_is_unavailable(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.database.stop()
    await bench.deliver("desk")
    bench.desk.then(500)
    await raised(Retry, bench.deliver("desk"))
    assert caplog.text.count("is not known") == 2
    assert caplog.text.count("is not noted") == 1


# Fan-out


async def test_an_event_goes_to_all_that_want_it(bench: Bench) -> None:
    run = RecordedRun()
    assert await bench.publish(run) == {"endpoints": ["shop", "desk"], "disabled": []}
    await bench.publish(run, attempt=2)
    await bench.publish(run, key="another")
    (queue, name, shop, options), desk, *repeat = run.enqueued
    assert (queue, name) == ("webhook", "deliver_webhook")
    assert (shop["endpoint"], desk[2]["endpoint"]) == ("shop", "desk")
    assert shop["id"] == desk[2]["id"]
    assert (shop["event"], shop["data"]) == ("order.paid", {"id": 17})
    assert options["key"] != desk[3]["key"]
    assert [one[3] for one in repeat[:2]] == [options, desk[3]]
    assert not {one[3]["key"] for one in repeat[2:]} & {options["key"], desk[3]["key"]}


async def test_disabled_endpoints_get_none(bench: Bench) -> None:
    bench.desk.then(410)
    await raised(JobSignal, bench.deliver("desk"))
    run = RecordedRun()
    assert await bench.publish(run) == {"endpoints": ["shop"], "disabled": ["desk"]}
    assert len(run.enqueued) == 1


async def test_an_event_arrives_once_at_each_through_real_queues(bench: Bench, store_url: str) -> None:
    async with engine_harness(
        store_url, QueueSettings("webhook", attempts=5, backoff=Backoff(0.01, 0.02))
    ) as made:
        made.handle_jobs(deliver_webhook, publish_event)
        bench.shop.then(503)
        await made.start_pool(resources={WebhookClient: bench.client, Database: bench.database})
        key = await made.add("webhook", "publish_event", event="order.paid", data={"id": 17})
        assert (await made.finished("webhook", key)).state is State.COMPLETED
        await wait_until(lambda: len(bench.shop.received) == 2 and len(bench.desk.received) == 1)
        failed, taken = bench.shop.received
        assert failed.id == taken.id == bench.desk.received[0].id
        await wait_until(lambda: works_again(bench))  # noted after the answer


async def works_again(bench: Bench) -> bool:
    return (await bench.status("shop")).failing_since is None
