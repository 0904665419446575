"""What one step does to a run: which job it adds, how it changes the contact, and where the run is then.

Nothing is done here, only decided: a step that is taken twice decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from crmd.crm.ai.payloads import ChatReply
from crmd.crm.contacts.repository import ContactView
from crmd.crm.email.payloads import SendEmail
from crmd.crm.flows.conditions import Known
from crmd.crm.flows.definition import FlowDefinition
from crmd.crm.flows.repository import RunState
from crmd.crm.flows.steps import (
    AddTag,
    AiReply,
    AnyStep,
    Branch,
    Email,
    End,
    Passed,
    RemoveTag,
    Send,
    SetAttribute,
    Wait,
    WaitForReply,
    Webhook,
    seconds_of,
)
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.templating import templates
from crmd.crm.webhooks.jobs import DeliverWebhook
from crmd.errors import mistakes_in

UNIQUE_SECONDS = 86_400.0
"""How long the key of a mail, an event or an answer stays taken: a repeat of its step adds no second one."""


class StepFailed(Exception):
    """The step cannot be taken; `str()` says why, and shows no text of the message."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step may use: its run, the contact, the last reply and what was saved."""

    flow: str
    run_id: int
    count: int
    contact: ContactView
    reply: str | None
    saved: Mapping[str, Any]

    @property
    def once(self) -> str:
        """The word under which the step's message goes out once."""
        return f"flow:{self.run_id}:{self.count}"

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the step's templates."""
        known = {**templates.contact_variables(self.contact, self.contact.tags), **self.saved}
        return known if self.reply is None else {**known, "reply": self.reply}

    @property
    def known(self) -> Known:
        """What the step's conditions are asked of."""
        one = self.contact
        contact = {"phone": one.phone, "name": one.name, "email": one.email}
        return Known(contact, one.attributes, one.tags, self.reply, self.saved)


@dataclass(frozen=True, slots=True)
class StepJob:
    """A job that a step adds, under the key of the step."""

    queue: str
    name: str
    payload: BaseModel
    unique_for: float = UNIQUE_SECONDS
    """Seconds; 0 where the job itself does nothing twice."""

    def options(self) -> dict[str, Any]:
        """How the job is added, beside its key."""
        return {"unique_for": self.unique_for}

    def arguments(self) -> dict[str, Any]:
        """The payload as it is stored: what was not given is left to the job."""
        return self.payload.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the contact."""

    kind: Literal["set_attribute", "add_tag", "remove_tag"]
    name: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Transition:
    """Where a run goes from a step, and what is to be done for it."""

    state: RunState
    step: str
    """Where the run stands then; where it is done, the step that was its last."""
    wait_seconds: float | None = None
    job: StepJob | None = None
    change: Change | None = None


def evaluate(step: AnyStep, flow: FlowDefinition, context: StepContext) -> Transition:
    """What a step makes of a run. Raises StepFailed."""
    match step:
        case End():
            return Transition(RunState.DONE, step.id)
        case Branch():
            return _to(_way(step, context.known), step)
        case WaitForReply():
            return Transition(RunState.WAITING_FOR_REPLY, step.id, wait_seconds=seconds_of(step.timeout))
        case Wait():
            following = flow.after(step)
            if following is None:
                return Transition(RunState.DONE, step.id)
            return Transition(RunState.WAITING, following, wait_seconds=seconds_of(step.duration))
        case SetAttribute() | AddTag() | RemoveTag():
            return _to(flow.after(step), step, change=_change(step, context))
        case _:
            return _to(flow.after(step), step, job=_job(step, context))


def after_reply(step: WaitForReply, flow: FlowDefinition) -> Transition:
    """Where the run goes once the contact has answered."""
    return _to(step.on_reply or flow.below(step), step)


def after_timeout(step: WaitForReply) -> Transition:
    """Where the run goes if the contact has not answered in time."""
    return _to(step.on_timeout, step)


def _to(
    following: str | None, step: AnyStep, *, job: StepJob | None = None, change: Change | None = None
) -> Transition:
    state = RunState.DONE if following is None else RunState.RUNNING
    return Transition(state, following or step.id, job=job, change=change)


def _way(step: Branch, known: Known) -> str:
    for case in step.cases:
        if all(condition.holds(known) for condition in case.conditions):
            return case.next
    return step.else_


def _change(step: SetAttribute | AddTag | RemoveTag, context: StepContext) -> Change:
    if isinstance(step, SetAttribute):
        return Change("set_attribute", step.name, _filled(step.value, context.variables, "value"))
    return Change(step.type, step.tag)


def _job(step: Passed, context: StepContext) -> StepJob:
    variables = context.variables
    match step:
        case Send():
            content = _filled(step.content(), variables)
            message = {**content, "to": context.contact.phone, "once": context.once}
            if step.category is not None:
                message["category"] = step.category
            return StepJob("message", "send_message", _checked(SendMessage, message), unique_for=0)
        case Webhook():
            event = {"event": step.event, "data": _event_data(step, context, variables)}
            target = {"url": step.url} if step.endpoint is None else {"endpoint": step.endpoint}
            return StepJob("webhook", "deliver_webhook", _checked(DeliverWebhook, {**target, **event}))
        case Email():
            mail = {name: _filled(getattr(step, name), variables, name) for name in ("to", "subject", "text")}
            mail["html"] = _filled(step.html, variables, "html", html=True)
            given = {name: value for name, value in mail.items() if value is not None}
            return StepJob("email", "send_email", _checked(SendEmail, given))
        case AiReply():
            asked = {name: _filled(getattr(step, name), variables, name) for name in ("instructions", "prompt")}
            to = {"to": context.contact.phone, "once": context.once}
            question = {"system": asked["instructions"], "prompt": asked["prompt"], "reply_to": to}
            return StepJob("ai", "chat_reply", _checked(ChatReply, question))
        case _:
            raise StepFailed(f"a step of type {step.type} adds no job")


def _event_data(step: Webhook, context: StepContext, variables: Mapping[str, Any]) -> Any:
    if step.data is not None:
        return _filled(step.data, variables, "data")
    contact = {"phone": context.contact.phone, "name": context.contact.name, "email": context.contact.email}
    return {"flow": context.flow, "run": context.run_id, "step": step.id, "contact": contact}


def _filled(value: Any, variables: Mapping[str, Any], field: str = "", *, html: bool = False) -> Any:
    """The same JSON with the variables in its texts filled in."""
    if isinstance(value, str):
        try:
            return templates.render(value, variables, html=html)
        except ValueError as error:
            raise StepFailed(f"{field}: {error}") from None
    if isinstance(value, dict):
        return {name: _filled(one, variables, f"{field}.{name}" if field else name) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, variables, f"{field}.{index}") for index, one in enumerate(value)]
    return value


def _checked(model: type[BaseModel], payload: dict[str, Any]) -> BaseModel:
    """The payload as its job takes it: what was filled in may not fit, such as a text that became too long."""
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        found = mistakes_in(error)
        reasons = [f"{'.'.join(map(str, one['loc'])) or 'message'}: {one['msg']}" for one in found]
        raise StepFailed("; ".join(reasons)) from None
