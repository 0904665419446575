"""What becomes of accepted messages: sent, delivered, read or failed, reported by webhook."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crmd.sandbox.callback import Callback
from crmd.sandbox.journal import Entry, Journal
from crmd.sandbox.meta_errors import status_error
from crmd.sandbox.settings import SandboxSettings

MAX_UNDER_WAY = 20_000
"""Messages whose statuses are still to come; beyond that statuses are left out, and counted."""
FAILURES = (131026, 131049, 131026, 130472)
"""Codes of the messages that fail by chance, in turn."""

Status = Literal["sent", "delivered", "read", "failed"]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class StatusPlan(BaseModel):
    """How statuses come, from now on."""

    model_config = ConfigDict(extra="forbid")

    order: Literal["normal", "reversed", "shuffled"] = "normal"
    repeat: Annotated[int, Field(ge=1, le=10)] = 1
    """How often each status is told."""
    read_share: Share = 0.7
    failed_share: Share = 0.04
    seconds: tuple[Seconds, Seconds, Seconds] = (0.4, 1.5, 4.0)
    """After acceptance, when a message is sent, delivered and read."""
    silent: bool = False
    """No statuses at all."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if list(self.seconds) != sorted(self.seconds):
            raise ValueError("seconds must grow: a message is sent, then delivered, then read")
        return self


class Statuses:
    """Tells the callback what became of each message, each in a task of its own."""

    def __init__(
        self, settings: SandboxSettings, callback: Callback, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self.plan = StatusPlan(
            read_share=settings.read_share, failed_share=settings.failed_share, seconds=settings.status_seconds
        )
        self.left_out = 0
        self._callback = callback
        self._journal = journal
        self._clock = clock
        self._random = random.Random(settings.seed)
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, entry: Entry, *, code: int | None = None) -> None:
        """From here on the message's statuses come; with `code` it fails."""
        if self.plan.silent:
            return
        if len(self._tasks) >= MAX_UNDER_WAY:
            self.left_out += 1
            return
        task = asyncio.create_task(self._follow(entry, self._course(code)), name="statuses")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tell(self, entry: Entry, status: Status, *, code: int | None = None) -> bool:
        """Tells one status now; says whether the callback took it."""
        return await self._tell(entry, status, self._clock(), code)

    async def stop(self) -> None:
        """Ends all that is under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _course(self, code: int | None) -> list[tuple[float, Status, int | None]]:
        """Seconds after acceptance, status, and error code of each status to come."""
        sent, delivered, read = self.plan.seconds
        if code is None and self._random.random() < self.plan.failed_share:
            code = FAILURES[self._failures % len(FAILURES)]
            self._failures += 1
        if code is not None:
            return [(sent, "sent", None), (delivered, "failed", code)]
        course: list[tuple[float, Status, int | None]] = [(sent, "sent", None), (delivered, "delivered", None)]
        if self._random.random() < self.plan.read_share:
            course.append((read, "read", None))
        return course

    async def _follow(self, entry: Entry, course: list[tuple[float, Status, int | None]]) -> None:
        accepted_at, loop = self._clock(), asyncio.get_running_loop()
        began, last = loop.time(), course[-1][0]
        order, repeat = self.plan.order, self.plan.repeat
        events = list(course)
        if order == "reversed":
            events.reverse()
        elif order == "shuffled":
            self._random.shuffle(events)
        for happened, status, code in events:
            # Out of order means late: nothing is told before it has happened.
            await asyncio.sleep(began + (happened if order == "normal" else last) - loop.time())
            for _ in range(repeat):
                await self._tell(entry, status, accepted_at + happened, code)

    async def _tell(self, entry: Entry, status: Status, happened_at: float, code: int | None) -> bool:
        fields = entry.fields
        told: dict[str, Any] = {
            "id": fields["wamid"],
            "status": status,
            "timestamp": str(int(happened_at)),
            "recipient_id": fields["wa_id"],
        }
        if status == "failed":
            told["errors"] = [status_error(code or 131000)]
        else:
            told |= _billing(fields)
        if fields["callback_data"] is not None:
            told["biz_opaque_callback_data"] = fields["callback_data"]
        self._note(entry, status, happened_at, code)
        return await self._callback.deliver({"statuses": [told]})

    def _note(self, entry: Entry, status: Status, happened_at: float, code: int | None) -> None:
        history = entry.fields["history"]
        if any(known["status"] == status for known in history):
            return
        self._journal.totals[status] += 1
        self._journal.change(
            entry,
            history=[*history, {"status": status, "at": happened_at}],
            error=code if status == "failed" else entry.fields["error"],
        )


def _billing(fields: dict[str, Any]) -> dict[str, Any]:
    category = "marketing" if fields["type"] == "template" else "service"
    conversation = hashlib.sha256(f"{fields['to']} {category}".encode()).hexdigest()[:32]
    return {
        "conversation": {"id": conversation, "origin": {"type": category}},
        "pricing": {"billable": category != "service", "pricing_model": "PMP", "category": category},
    }
