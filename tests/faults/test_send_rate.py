"""Two daemons at Meta's limit, while people write and daemons die: nine tenths of it used, hardly a refusal."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from crmd.client.over_store import Client
from crmd.engine.admin.views import NewJob
from tests.support.daemon import DaemonProcess, Daemons, free_port
from tests.support.sandbox import SandboxThread, sandbox
from tests.support.wait import wait_until_sync

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

RATE = 80
SLOTS = 25
QUEUE = f'[queues.message]\nrate_limit = "{RATE}/s"\nconcurrency = {SLOTS}\n'
CALM_LOAD = 1.5 * (os.cpu_count() or 1)
"""Of this machine, what the test itself makes included."""
RULES: dict[str, dict[str, Any]] = {"window": {}, "bucket": {"throughput_bucket": RATE}}


def fill(url: str, count: int) -> list[str]:
    """Adds messages, each to somebody else; returns their numbers."""
    numbers = [f"4915{n:08d}" for n in range(count)]
    with Client(url) as client:
        for start in range(0, count, 500):
            some = numbers[start : start + 500]
            client.enqueue_many("message", [NewJob("send_message", {"to": to, "text": "hi"}) for to in some])
    return numbers


def left(daemon: DaemonProcess) -> int:
    """Messages that are not over."""
    queue = daemon.get("/api/v1/queues/health").json["queues"]["message"]
    return int(queue["waiting"] + queue["active"] + queue["delayed"])


def start(daemons: Daemons, meta: SandboxThread, url: str, port: int | None = None) -> DaemonProcess:
    """A daemon on the shared store."""
    made = daemons.make(config=f'{meta.whatsapp_table}\n[redis]\nurl = "{url}"\n{QUEUE}')
    made.port = port or made.port
    made.configure()
    made.start()
    return made


def least_used() -> float:
    """Of the rate. Where others use the processors too, what a daemon cannot start in time is lost."""
    return 0.9 if os.getloadavg()[0] <= CALM_LOAD else 0.6


def most_refused(count: int) -> float:
    """Of so many messages: one in a thousand, where the stand-in gets them as evenly as they leave."""
    return max(1, count / 1000) if os.getloadavg()[0] <= CALM_LOAD else count / 100


@pytest.mark.parametrize(("rule", "people"), [("window", 0), ("window", 20), ("bucket", 20)])
def test_nine_tenths_of_the_rate_are_used(daemons: Daemons, store_url: str, rule: str, people: int) -> None:
    count, port = (RATE - people) * 40, free_port()
    with sandbox(port, messages_per_second=RATE, **RULES[rule]) as meta:
        hook = start(daemons, meta, store_url, port)
        other = start(daemons, meta, store_url)
        ended = meta.people_write(people) if people else lambda: 0
        fill(store_url, count)
        wait_until_sync(lambda: meta.taken >= count, 120)
        wrote = ended()
        times, errors = meta.accepted_at(), meta.errors()
        seconds = times[-1] - times[0]
        used = (count + wrote) / seconds / RATE
        print(f"\n    {rule}, {people} a second write: {used:.1%} used, {dict(errors)} of {count}")  # noqa: T201 - figures
        hook.stop()
        other.stop()
        assert errors[130429] <= most_refused(count)
        assert set(errors) <= {130429}
        assert used >= least_used()


def test_three_kills_neither_break_the_limit_nor_send_twice(daemons: Daemons, store_url: str) -> None:
    count, port = (RATE - 20) * 45, free_port()
    with sandbox(port, messages_per_second=RATE) as meta:
        hook = start(daemons, meta, store_url, port)
        other = start(daemons, meta, store_url)
        ended = meta.people_write(20)
        began = time.monotonic()
        numbers = fill(store_url, count)
        for share in (0.2, 0.4, 0.6):
            wait_until_sync(lambda: meta.taken >= count * share, 120)  # noqa: B023 - waited for at once
            other.kill()
            other.start()
        wait_until_sync(lambda: meta.taken >= count - 3 * SLOTS, 120)
        used = (meta.taken + ended()) / (time.monotonic() - began) / RATE
        wait_until_sync(lambda: left(hook) == 0, 90)
        errors, recipients = meta.errors(), meta.recipients()
        unknown = count - len(recipients)
        print(f"\n    three kills: {used:.1%} used, {dict(errors)} of {count}, {unknown} unknown")  # noqa: T201 - as above
        hook.stop()
        other.stop()
        assert max(recipients.values()) == 1
        assert set(recipients) <= {f"+{number}" for number in numbers}
        assert len(recipients) >= count - 3 * SLOTS
        assert errors[130429] <= most_refused(count)
        assert set(errors) <= {130429}
        assert used >= least_used()
