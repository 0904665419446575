"""What a contact's message does to flows: it answers those that wait for a reply, else starts those that fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.definition import Start, read_flow
from crmd.crm.flows.evaluation import after_reply
from crmd.crm.flows.jobs import OPTED_OUT, continuation, new_data
from crmd.crm.flows.repository import Position, RunState, Step, Trigger
from crmd.crm.flows.steps import WaitForReply, seconds_of
from crmd.crm.flows.tables import FlowRun
from crmd.crm.messages.tables import Message
from crmd.jobs import JobContext

MESSAGES_KEPT = 20
"""Ids of messages that a run keeps, so that none answers it twice."""
_WORD = re.compile(r"\w+")


async def inbound(ctx: JobContext, contact: Contact, message: Message, *, is_answer: bool = True) -> None:
    """Advances or starts runs by one message that came in. The same message again changes nothing more.

    To be called outside a transaction, once the message is recorded. Raises RecordsUnavailable and
    StoreUnavailable: then it has to be called again.
    """
    async with ctx.get(Database).transaction() as s:
        moved = await move(s, contact, message, is_answer=is_answer)
    await go_on(ctx, moved)


async def move(s: AsyncSession, contact: Contact, message: Message, *, is_answer: bool) -> list[Position]:
    """Moves and makes the runs that a message is for; those that have to go on now are returned for `go_on`.

    What is no answer, such as a reaction, moves nothing that it has not moved before; runs of a contact that opted
    out end all the same.
    """
    # One message of a person after the other: two at once shall not start a flow twice.
    person = await people.one_behind(s, message.phone)
    locked = await people.lock(s, sorted({contact.id, *(person.ids if person else ())}))
    if message.wamid is None or contact.id not in {one.id for one in locked}:
        return []  # forgotten meanwhile
    return await _move(s, contact, locked, message.wamid, (message.text or "") if is_answer else None)


async def go_on(ctx: JobContext, moved: Sequence[Position]) -> None:
    """Adds the jobs of the runs that a message has moved. Raises StoreUnavailable: then call it again."""
    jobs = [continuation(at) for at in moved]
    if jobs:
        await ctx.enqueue_many("flow", "run_flow", [(payload, {"key": key}) for payload, key in jobs])


async def _move(
    s: AsyncSession, contact: Contact, locked: Sequence[Contact], wamid: str, text: str | None
) -> list[Position]:
    """The runs of a person's contacts that have to go on now; the first of them starts what is started.

    Without a `text` the message moves none that it has not moved before.
    """
    if any(one.opted_out_at is not None for one in locked):
        for one in locked:
            await flows.cancel_all(s, one.id, OPTED_OUT)
        return []
    runs = [run for one in locked for run in await flows.latest(s, one.id)]
    moved_before = [run for run in runs if wamid in run.data.get("messages", [])]
    if moved_before:  # the job of the message died before it had added theirs
        return [Position(run.id, run.count) for run in moved_before if run.state == RunState.RUNNING]
    if text is None:
        return []
    waiting = [run for one in locked for run in await flows.waiting_for_reply(s, one.id)]
    answered = [at for run in waiting if (at := await _answer(s, run, wamid, text))]
    return answered or await _start(s, contact, runs, wamid, text)


async def _answer(s: AsyncSession, run: FlowRun, wamid: str, text: str) -> Position | None:
    """Gives a run the reply; None where its time ran out meanwhile."""
    flow = read_flow(run.definition)
    step = flow.find(run.step or "")
    if not isinstance(step, WaitForReply):
        return None
    transition = after_reply(step, flow)
    saved = run.data.get("saved", {})
    data = {
        "saved": {**saved, step.save_as: text} if step.save_as else saved,
        "reply": text,
        "messages": [*run.data.get("messages", []), wamid][-MESSAGES_KEPT:],
    }
    moved = await flows.save(s, Position(run.id, run.count), Step(transition.state, transition.step, data))
    return Position(run.id, run.count + 1) if moved else None


async def _start(
    s: AsyncSession, contact: Contact, runs: Sequence[FlowRun], wamid: str, text: str
) -> list[Position]:
    started = []
    for trigger in _fitting(await flows.triggers(s), text):
        if _held_back(trigger, runs, utc_now()):
            continue
        flow = await flows.by_name(s, trigger.name)
        if flow is None:
            continue
        first, data = read_flow(flow.definition).first, new_data(wamid=wamid)
        once = f"message:{wamid}:{flow.id}"
        at, _ = await flows.start(s, flow, contact.id, once=once, step=first, data={**data, "reply": text})
        started.append(at)
    return started


def _fitting(triggers: Sequence[Trigger], text: str) -> list[Trigger]:
    """The flows that a message starts: those whose words it has, else those that any message starts."""
    by_message = [(trigger, Start.model_validate(trigger.start)) for trigger in triggers]
    by_message = [(trigger, start) for trigger, start in by_message if start.on == "message"]
    said = _words(text)
    called = [trigger for trigger, start in by_message if any(_words(one) in said for one in start.words or ())]
    return called or [trigger for trigger, start in by_message if start.words is None]


def _words(text: str) -> str:
    """The words of a text, in lower case with one blank around each: phrases are found in it as they are."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _held_back(trigger: Trigger, runs: Sequence[FlowRun], now: datetime) -> bool:
    """Whether the contact is in the flow already, or was so too short a time ago."""
    cooldown = Start.model_validate(trigger.start).cooldown
    since = now - timedelta(seconds=seconds_of(cooldown)) if cooldown else now
    return any(
        run.flow_id == trigger.flow_id and (RunState(run.state).live or run.created_at > since) for run in runs
    )
