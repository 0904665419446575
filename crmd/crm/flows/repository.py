"""Flows: their definitions, and the runs of contacts through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.repository import Forgotten
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.types import utc_now
from crmd.crm.database.upsert import insert_into
from crmd.crm.flows.tables import Flow, FlowRun

KEEP_RUNS = timedelta(days=90)
"""How long the row of a finished run stays."""
LOOK_AFTER = timedelta(minutes=10)
"""A run that is `running` and made no step for this long has lost its job: one attempt takes at most 5 minutes."""
MAX_FLOWS = 500
RUNS_OF_CONTACT = 50
"""Runs of one contact that an inbound message is held against, the latest."""


class RunState(StrEnum):
    """The states of a run."""

    RUNNING = "running"
    """A job is at it, or about to be."""
    WAITING = "waiting"
    WAITING_FOR_REPLY = "waiting_for_reply"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def live(self) -> bool:
        """Whether the run goes on."""
        return self in LIVE


LIVE = (RunState.RUNNING, RunState.WAITING, RunState.WAITING_FOR_REPLY)
FINISHED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a flow, of one that is enabled."""

    flow_id: int
    name: str
    start: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow, and how many runs are under way in it."""

    flow: Flow
    live_runs: int


@dataclass(frozen=True, slots=True)
class RunView:
    """A run, and whose it is."""

    run: FlowRun
    phone: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one step makes of a run."""

    state: RunState
    step: str | None
    data: dict[str, Any]
    wake_at: datetime | None = None
    """When a wait ends; other states need none."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A run, and how far it is."""

    run_id: int
    count: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that should have gone on."""

    run_id: int
    count: int
    wake_at: datetime


async def put(s: AsyncSession, name: str, definition: dict[str, Any], *, enabled: bool = True) -> bool:
    """Stores a definition, in place of an earlier one of that name; says whether the flow is new.

    Runs under way keep the definition with which they began. Raises ValueError for one flow too many.
    """
    found = await s.scalar(select(Flow.id).where(Flow.name == name).with_for_update())
    if found is None and (await s.scalar(select(func.count()).select_from(Flow)) or 0) >= MAX_FLOWS:
        raise ValueError(f"there are {MAX_FLOWS} flows, which is the most; delete one first")
    now = utc_now()
    values = {"definition": definition, "enabled": enabled, "updated_at": now}
    insert = insert_into(s, Flow).values(name=name, created_at=now, **values)
    await s.execute(insert.on_conflict_do_update(index_elements=["name"], set_=values))
    return found is None


async def by_name(s: AsyncSession, name: str) -> Flow | None:
    """The flow of that name."""
    return await s.scalar(select(Flow).where(Flow.name == name))


async def remove(s: AsyncSession, name: str) -> bool:
    """Deletes a flow and its runs, also those under way; says whether there was one."""
    return await s.scalar(delete(Flow).where(Flow.name == name).returning(Flow.id)) is not None


async def page(s: AsyncSession, after_id: int | None, limit: int) -> list[FlowView]:
    """Flows by id, after one."""
    flows = (await s.scalars(select(Flow).where(Flow.id > (after_id or 0)).order_by(Flow.id).limit(limit))).all()
    live = await _live_counts(s, [flow.id for flow in flows])
    return [FlowView(flow, live.get(flow.id, 0)) for flow in flows]


async def view(s: AsyncSession, name: str) -> FlowView | None:
    """One flow by its name."""
    flow = await by_name(s, name)
    return FlowView(flow, (await _live_counts(s, [flow.id])).get(flow.id, 0)) if flow else None


async def triggers(s: AsyncSession) -> list[Trigger]:
    """What starts each enabled flow, by name. Definitions are large: only this part of them is read."""
    found = select(Flow.id, Flow.name, Flow.definition["start"]).where(Flow.enabled).order_by(Flow.name)
    return [Trigger(flow_id, name, start or {}) for flow_id, name, start in (await s.execute(found)).all()]


async def start(
    s: AsyncSession, flow: Flow, contact_id: int, *, once: str, step: str, data: dict[str, Any]
) -> tuple[Position, bool]:
    """Makes a run that stands at its first step; says whether it is new: a taken `once` finds the run it has."""
    now = utc_now()
    values = {
        "flow_id": flow.id,
        "contact_id": contact_id,
        "once": once,
        "definition": flow.definition,
        "state": RunState.RUNNING,
        "step": step,
        "count": 0,
        "data": data,
        "wake_at": now + LOOK_AFTER,
        "created_at": now,
        "updated_at": now,
    }
    insert = insert_into(s, FlowRun).values(**values).on_conflict_do_nothing(index_elements=["once"])
    made = await s.scalar(insert.returning(FlowRun.id))
    if made is not None:
        return Position(made, 0), True
    row = (await s.execute(select(FlowRun.id, FlowRun.count).where(FlowRun.once == once))).one()
    return Position(*row), False


async def load(s: AsyncSession, run_id: int) -> FlowRun | None:
    """A run; None where there is none of that id."""
    return await s.get(FlowRun, run_id)


async def save(s: AsyncSession, at: Position, step: Step) -> bool:
    """Writes down a step, unless the run is no longer where `at` says: then it changes nothing and returns False.

    Of several that take the same step, or of a reply and a timeout, one wins.
    """
    now = utc_now()
    finished = step.state in FINISHED
    lasting = now + (KEEP_RUNS if finished else LOOK_AFTER)
    changed = await s.scalar(
        update(FlowRun)
        .where(FlowRun.id == at.run_id, FlowRun.count == at.count, FlowRun.state.in_(LIVE))
        .values(
            state=step.state,
            step=step.step,
            data=step.data,
            count=at.count + 1,
            wake_at=step.wake_at or lasting,
            error=step.error,
            updated_at=now,
        )
        .returning(FlowRun.id)
        .execution_options(synchronize_session=False)
    )
    return changed is not None


async def cancel(s: AsyncSession, run_id: int, reason: str) -> bool:
    """Ends a live run; its step under way is not saved any more. Says whether it was live."""
    return bool(await _cancel(s, FlowRun.id == run_id, reason))


async def cancel_all(s: AsyncSession, contact_id: int, reason: str) -> int:
    """Ends the live runs of a contact; returns how many there were."""
    return await _cancel(s, FlowRun.contact_id == contact_id, reason)


async def waiting_for_reply(s: AsyncSession, contact_id: int) -> list[FlowRun]:
    """The runs of a contact that wait for a reply, the latest first, at most RUNS_OF_CONTACT."""
    return await _runs_of(s, contact_id, FlowRun.state == RunState.WAITING_FOR_REPLY)


async def latest(s: AsyncSession, contact_id: int) -> list[FlowRun]:
    """The latest runs of a contact, finished ones too, the newest first, at most RUNS_OF_CONTACT."""
    return await _runs_of(s, contact_id)


async def overdue(s: AsyncSession, before: datetime, after: Overdue | None, limit: int) -> list[Overdue]:
    """A page of the live runs that should have gone on before an instant, the oldest first."""
    found = select(FlowRun.id, FlowRun.count, FlowRun.wake_at)
    found = found.where(FlowRun.state.in_(LIVE), FlowRun.wake_at < before)
    if after is not None:
        later, same = FlowRun.wake_at > after.wake_at, FlowRun.wake_at == after.wake_at
        found = found.where(or_(later, and_(same, FlowRun.id > after.run_id)))
    found = found.order_by(FlowRun.wake_at, FlowRun.id).limit(limit)
    return [Overdue(*row) for row in (await s.execute(found)).all()]


async def remove_old(s: AsyncSession, now: datetime, limit: int) -> int:
    """Deletes up to `limit` finished runs whose time is over; returns how many it deleted."""
    old = select(FlowRun.id).where(FlowRun.state.in_(FINISHED), FlowRun.wake_at < now).limit(limit)
    ids = (await s.scalars(old)).all()
    if ids:
        await s.execute(delete(FlowRun).where(FlowRun.id.in_(ids)).execution_options(synchronize_session=False))
    return len(ids)


async def runs(
    s: AsyncSession,
    flow_id: int,
    *,
    states: Sequence[str] = (),
    phone: str | None = None,
    before: int | None,
    limit: int,
) -> list[RunView]:
    """A page of a flow's runs, the newest first: those whose id is below `before`."""
    found = select(FlowRun, Contact.phone).join(Contact, Contact.id == FlowRun.contact_id)
    found = found.where(FlowRun.flow_id == flow_id).order_by(FlowRun.id.desc()).limit(limit)
    if states:
        found = found.where(FlowRun.state.in_(states))
    if phone is not None:
        found = found.where(Contact.phone.in_(forms(phone)))
    if before is not None:
        found = found.where(FlowRun.id < before)
    return [RunView(run, phone) for run, phone in (await s.execute(found)).all()]


async def run_view(s: AsyncSession, flow_name: str, run_id: int) -> RunView | None:
    """One run of the flow of that name."""
    found = (
        select(FlowRun, Contact.phone)
        .join(Contact, Contact.id == FlowRun.contact_id)
        .join(Flow, Flow.id == FlowRun.flow_id)
        .where(Flow.name == flow_name, FlowRun.id == run_id)
    )
    row = (await s.execute(found)).first()
    return RunView(row[0], row[1]) if row else None


async def _live_counts(s: AsyncSession, flow_ids: Sequence[int]) -> dict[int, int]:
    counted = (
        select(FlowRun.flow_id, func.count())
        .where(FlowRun.flow_id.in_(flow_ids), FlowRun.state.in_(LIVE))
        .group_by(FlowRun.flow_id)
    )
    return {row[0]: row[1] for row in (await s.execute(counted)).all()}


async def _cancel(s: AsyncSession, which: Any, reason: str) -> int:
    now = utc_now()
    ended = await s.scalars(
        update(FlowRun)
        .where(which, FlowRun.state.in_(LIVE))
        .values(
            state=RunState.CANCELLED,
            count=FlowRun.count + 1,
            wake_at=now + KEEP_RUNS,
            error=reason,
            updated_at=now,
        )
        .returning(FlowRun.id)
        .execution_options(synchronize_session=False)
    )
    return len(ended.all())


async def _runs_of(s: AsyncSession, contact_id: int, *conditions: Any) -> list[FlowRun]:
    found = select(FlowRun).where(FlowRun.contact_id == contact_id, *conditions)
    return list((await s.scalars(found.order_by(FlowRun.id.desc()).limit(RUNS_OF_CONTACT))).all())


async def forget(s: AsyncSession, contact: Forgotten) -> None:
    """Deletes a contact's runs."""
    await s.execute(delete(FlowRun).where(FlowRun.contact_id == contact.id))
