"""Queue `flow`: takes contacts through flows, step by step.

Each step is one transaction that counts it. Before it, the step's job is added under a key made of run and count:
a step that is taken again adds nothing new. A wait is a delayed job that goes on from the count at which it was
added; where something else moved the run meanwhile, such as a reply, it finds nothing to do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Self, TypedDict

from pydantic import Field, JsonValue, ValidationError, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactView
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.definition import FlowDefinition, FlowName, read_flow
from crmd.crm.flows.evaluation import Change, StepContext, StepFailed, Transition, after_timeout, evaluate
from crmd.crm.flows.repository import Position, RunState, Step
from crmd.crm.flows.steps import VariableName, WaitForReply
from crmd.crm.flows.tables import FlowRun
from crmd.crm.payload import Payload, invalid
from crmd.crm.thread_runner import run_in_thread
from crmd.errors import Permanent, RequestError
from crmd.jobs import JobContext, job

MAX_RUN_STEPS = 1_000
"""A run that took this many steps is in a loop that nobody meant."""
MAX_DATA = 50
"""Variables that a run may begin with."""
MAX_REASON = 1_000
OPTED_OUT = "the contact opted out"


class RunFlow(Payload):
    """Starts a flow for a contact (`flow`, `contact`), or goes on with a run (`run`, `count`)."""

    flow: Annotated[FlowName | None, Field(description="The flow to start.")] = None
    contact: Annotated[
        str | None,
        Field(
            pattern=r"^\+?[1-9][0-9]{6,14}$",
            description="The contact's number in international form; an unknown number becomes a new contact.",
        ),
    ] = None
    data: Annotated[
        dict[VariableName, JsonValue],
        Field(
            max_length=MAX_DATA, description="Variables for the flow's texts, and for `saved.NAME` in conditions."
        ),
    ] = Field(default_factory=dict)
    run: Annotated[int | None, Field(ge=1, description="The run to continue; crmd adds such jobs itself.")] = None
    count: Annotated[int | None, Field(ge=0, description="How many steps that run had taken.")] = None

    @model_validator(mode="after")
    def _start_or_go_on(self) -> Self:
        starts, goes_on = (self.flow, self.contact), (self.run, self.count)
        if None in starts and None in goes_on:
            raise invalid("needs flow and contact to start a run, or run and count to go on with one")
        if starts != (None, None) and goes_on != (None, None):
            raise invalid("flow and contact start a run, run and count go on with one: give either")
        if self.data and self.flow is None:
            raise invalid("data is for the start of a run")
        return self


class FlowProgress(TypedDict):
    """Where the run stands."""

    run: int
    state: str
    """running, waiting, waiting_for_reply, done, failed, cancelled; gone where it was deleted."""
    step: str | None
    count: int


@job(queue="flow", payload=RunFlow)
async def run_flow(ctx: JobContext, payload: RunFlow) -> FlowProgress:
    """Takes a run as far as its next wait, or to its end."""
    database = ctx.get(Database)
    if payload.run is not None and payload.count is not None:
        return await _Walk(ctx, database, payload.run).go(payload.count)
    return await _Walk(ctx, database, await _start(ctx, database, payload)).go(0)


def continuation(at: Position) -> tuple[dict[str, Any], str]:
    """Payload and key of the job that goes on with a run."""
    return {"run": at.run_id, "count": at.count}, f"flow-{at.run_id}-{at.count}"


async def _start(ctx: JobContext, database: Database, payload: RunFlow) -> int:
    """Creates the run and returns its id; a key starts one run, however often its job is added or delivered."""
    phone = f"+{(payload.contact or '').removeprefix('+')}"
    async with database.transaction() as s:
        flow = await flows.by_name(s, payload.flow or "")
        if flow is None:
            raise Permanent(f"there is no flow {payload.flow}; put its definition first")
        if not flow.enabled:
            raise Permanent(f"flow {payload.flow} is disabled")
        contact = await contacts.ensure(s, phone)
        first, data = read_flow(flow.definition).first, new_data(saved=payload.data)
        at, _ = await flows.start(s, flow, contact.id, once=f"job:{ctx.key}", step=first, data=data)
    return at.run_id


def new_data(*, saved: dict[str, Any] | None = None, wamid: str | None = None) -> dict[str, Any]:
    """What a run knows when it begins; `wamid` is the message that started it."""
    return {"saved": saved or {}, "reply": None, "messages": [wamid] if wamid else []}


class _Walk:
    """One job's way through one run."""

    def __init__(self, ctx: JobContext, database: Database, run_id: int) -> None:
        self._ctx = ctx
        self._database = database
        self._run_id = run_id

    async def go(self, count: int) -> FlowProgress:
        """Goes on from `count`.

        A run that is under way goes on from where it is, as the job that was at it may have died. One that waits
        since a later step is not woken.
        """
        found = await self._read()
        if found and found[0].count != count and found[0].state != RunState.RUNNING:
            await self._leave(found[0])
            return _progress(self._run_id, found[0])
        while found and RunState(found[0].state).live:
            run, contact = found
            transition = await self._step(run, contact)
            found = await self._read()
            if transition is None or transition.wait_seconds is not None:
                break
        return _progress(self._run_id, found[0] if found else None)

    async def _read(self) -> tuple[FlowRun, ContactView] | None:
        async with self._database.reading() as s:
            run = await flows.load(s, self._run_id)
            contact = await contacts.view(s, run.contact_id) if run else None
        return (run, contact) if run and contact else None

    async def _leave(self, run: FlowRun) -> None:
        """Lets a run wait; the job that wakes it is added again where it was lost."""
        if RunState(run.state).live:
            payload, key = continuation(Position(run.id, run.count))
            await self._ctx.enqueue("flow", "run_flow", payload, key=key, at=run.wake_at)

    async def _step(self, run: FlowRun, contact: ContactView) -> Transition | None:
        """Takes one step; None where the run ended by it, or something else moved it meanwhile."""
        at = Position(run.id, run.count)
        if contact.opted_out_at is not None:
            await self._end(run, RunState.CANCELLED, OPTED_OUT)
            return None
        try:
            # In a thread: a definition may be large, and a template may take its time.
            transition = await run_in_thread(lambda: _evaluate(run, contact))
            await self._add_job(at, transition)
            saved = await self._save(run, transition)
        except StepFailed as error:
            reason = f"step {run.step}: {error}"
            await self._end(run, RunState.FAILED, reason)
            raise Permanent(f"run {run.id} failed at {reason}") from None
        if saved and transition.wait_seconds is not None:
            # After the save: a job that came before it would find nothing to do. One lost between is added again.
            payload, key = continuation(Position(run.id, run.count + 1))
            await self._ctx.enqueue("flow", "run_flow", payload, key=key, delay=transition.wait_seconds)
        return transition if saved else None

    async def _add_job(self, at: Position, transition: Transition) -> None:
        if transition.job is None:
            return
        new, options = transition.job, {"key": f"flow-{at.run_id}-{at.count}"}
        try:
            await self._ctx.enqueue(new.queue, new.name, new.arguments(), **options, **new.options())
        except RequestError as error:
            raise StepFailed(str(error)) from None

    async def _save(self, run: FlowRun, transition: Transition) -> bool:
        """One transaction: the step is counted, and the contact changed, or neither."""
        wait_seconds = transition.wait_seconds
        wake_at = None if wait_seconds is None else utc_now() + timedelta(seconds=wait_seconds)
        step = Step(transition.state, transition.step, run.data, wake_at)
        try:
            async with self._database.transaction() as s:
                if transition.change is not None:  # the contact before its run, as messages that come in do
                    await people.lock(s, [run.contact_id])
                if not await flows.save(s, Position(run.id, run.count), step):
                    return False
                await _apply(s, run.contact_id, transition.change)
        except ValueError as error:  # the contact takes no such change
            raise StepFailed(str(error)) from None
        return True

    async def _end(self, run: FlowRun, state: RunState, reason: str) -> None:
        async with self._database.transaction() as s:
            at = Position(run.id, run.count)
            await flows.save(s, at, Step(state, run.step, run.data, error=reason[:MAX_REASON]))


def _definition(run: FlowRun) -> FlowDefinition:
    try:
        return read_flow(run.definition)
    except ValidationError:
        raise StepFailed(
            "its definition is of another version of crmd; store the flow again, and start a new run"
        ) from None


def _evaluate(run: FlowRun, contact: ContactView) -> Transition:
    flow = _definition(run)
    if run.count >= MAX_RUN_STEPS:
        raise StepFailed(f"the run has made {MAX_RUN_STEPS:,} steps, which is the most; look for a loop")
    step = flow.find(run.step or "")
    if isinstance(step, WaitForReply) and run.state == RunState.WAITING_FOR_REPLY:
        return after_timeout(step)
    known = run.data
    return evaluate(
        step, flow, StepContext(flow.name, run.id, run.count, contact, known.get("reply"), known.get("saved", {}))
    )


async def _apply(s: AsyncSession, contact_id: int, change: Change | None) -> None:
    match change:
        case Change(kind="set_attribute", name=name, value=value):
            await contacts.set_attribute(s, contact_id, name, value)
        case Change(kind="add_tag", name=name):
            await contacts.add_tag(s, contact_id, name)
        case Change(kind="remove_tag", name=name):
            await contacts.remove_tag(s, contact_id, name)


def _progress(run_id: int, run: FlowRun | None) -> FlowProgress:
    if run is None:
        return FlowProgress(run=run_id, state="gone", step=None, count=0)
    return FlowProgress(run=run_id, state=run.state, step=run.step, count=run.count)


# Looks after flows: runs whose jobs were lost go on, and old runs are deleted


LATE = timedelta(minutes=1)
"""A job that is due is given this long to start before its run counts as forgotten."""
BATCH = 500
MAX_BATCHES = 20


class SweepFlows(Payload):
    """Nothing: it is about all flows."""


class Swept(TypedDict):
    """What the sweep found."""

    overdue: int
    """Runs that were to go on; where their jobs are still there nothing was added."""
    removed: int
    """Old runs that were deleted."""


@job(queue="flow", payload=SweepFlows)
async def sweep_flows(ctx: JobContext, payload: SweepFlows) -> Swept:
    """Adds the jobs of runs that are overdue, at most 10,000 a time, and deletes runs that ended long ago."""
    database, now = ctx.get(Database), utc_now()
    overdue = removed = 0
    after: flows.Overdue | None = None
    for _ in range(MAX_BATCHES):
        async with database.reading() as s:
            found = await flows.overdue(s, now - LATE, after, BATCH)
        if found:
            jobs = [continuation(Position(one.run_id, one.count)) for one in found]
            await ctx.enqueue_many("flow", "run_flow", [(payload, {"key": key}) for payload, key in jobs])
            overdue, after = overdue + len(found), found[-1]
        if len(found) < BATCH:
            break
    for _ in range(MAX_BATCHES):
        async with database.transaction() as s:
            gone = await flows.remove_old(s, now, BATCH)
        removed += gone
        if gone < BATCH:
            break
    if overdue:
        ctx.log.info("flow runs were overdue: %d", overdue)
    return Swept(overdue=overdue, removed=removed)
