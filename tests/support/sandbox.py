"""The sandbox in a thread of its own, for tests whose daemon is a process."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crmd.sandbox.faults import Fault, FaultKind
from crmd.sandbox.journal import Kind
from crmd.sandbox.server import Sandbox
from crmd.sandbox.settings import Addresses, SandboxSettings, toml_lines
from crmd.sandbox.users import Inbound, OtherNumber

START_SECONDS = 10.0


class SandboxThread:
    """A started sandbox, seen from outside its loop."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._sandbox = Sandbox(settings)
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._sandbox.start(), self._loop)
        self.addresses: Addresses = started.result(START_SECONDS)

    @property
    def whatsapp_table(self) -> str:
        """The table of `config.toml` that points a daemon at it."""
        tables = self.addresses.configuration(self._settings)
        return "\n".join(toml_lines({"whatsapp": tables["whatsapp"]}))

    @property
    def taken(self) -> int:
        """Messages that it accepted."""
        return int(self._sandbox.journal.totals["accepted"])

    @property
    def refused(self) -> int:
        """Messages that it refused."""
        return int(self._sandbox.journal.totals["refused"])

    def recipients(self) -> Counter[str]:
        """How many accepted messages went to each number."""
        entries = self._sandbox.journal.entries(Kind.MESSAGE)
        return Counter(f"+{entry.fields['to']}" for entry in entries if entry.fields["wamid"])

    def errors(self) -> Counter[int]:
        """How many messages it refused, by the error's code."""
        entries = self._sandbox.journal.entries(Kind.MESSAGE)
        return Counter(entry.fields["error"] for entry in entries if entry.fields["wamid"] is None)

    def accepted_at(self) -> list[float]:
        """When it accepted each message, in epoch seconds."""
        entries = self._sandbox.journal.entries(Kind.MESSAGE)
        return sorted(entry.fields["history"][0]["at"] for entry in entries if entry.fields["wamid"])

    def people_write(self, per_second: float) -> Callable[[], int]:
        """From now on people write, at random times; returns what ends that and says how many wrote."""
        dice, senders = random.Random(1), itertools.count(1)

        async def write() -> None:
            while True:
                await asyncio.sleep(dice.expovariate(per_second))
                sender = f"4917{next(senders):08d}"
                self._sandbox.whatsapp.users.write(Inbound.model_validate({"from": sender, "text": "hello"}))

        writing = asyncio.run_coroutine_threadsafe(write(), self._loop)

        def end() -> int:
            writing.cancel()
            return next(senders) - 1

        return end

    def keep_silent(self, times: int, *, taken: bool) -> None:
        """The next messages get no answer, whether they are taken or not."""
        fault = Fault(kind=FaultKind.TIMEOUT, times=times, accepted=taken)

        async def add() -> None:
            self._sandbox.faults.add(fault)

        asyncio.run_coroutine_threadsafe(add(), self._loop).result(START_SECONDS)

    def write(self, sender: str, text: str) -> None:
        """A user writes to the business."""

        async def write() -> None:
            self._sandbox.whatsapp.users.write(Inbound.model_validate({"from": sender, "text": text}))

        asyncio.run_coroutine_threadsafe(write(), self._loop).result(START_SECONDS)

    def know_as(self, number: str, wa_id: str) -> None:
        """WhatsApp has this number in another form."""

        async def know() -> None:
            self._sandbox.whatsapp.users.know_as(OtherNumber(number=number, wa_id=wa_id))

        asyncio.run_coroutine_threadsafe(know(), self._loop).result(START_SECONDS)

    @property
    def app_secret(self) -> str:
        """What its webhooks are signed with."""
        return self._settings.app_secret

    @property
    def is_silent(self) -> bool:
        """Whether all messages that get no answer have come."""
        return not self._sandbox.faults.pending()

    def close(self) -> None:
        """Ends it."""
        asyncio.run_coroutine_threadsafe(self._sandbox.stop(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def sandbox(port: int, **settings: Any) -> Iterator[SandboxThread]:
    """A sandbox that sends its webhooks to the daemon on this port."""
    defaults: dict[str, Any] = {
        "port": 0,
        "smtp_port": 0,
        "callback_url": f"http://127.0.0.1:{port}/webhooks/whatsapp",
        "messages_per_second": 1000,
        "failed_share": 0.0,
        "keep": 100_000,
    }
    made = SandboxThread(SandboxSettings(**(defaults | settings)))
    try:
        yield made
    finally:
        made.close()
