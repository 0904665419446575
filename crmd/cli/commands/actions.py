"""Commands that act on jobs, by key or by filter: retry, cancel, promote, clean."""

from __future__ import annotations

from typing import Any

import click

from crmd.cli.commands.bulk import Action, Selection, by_filter
from crmd.cli.commands.jobs import StateOption
from crmd.cli.commands.queues import person
from crmd.cli.kit import output
from crmd.cli.kit.base import Command, Globals, complain, pass_globals, print_json
from crmd.cli.kit.payload import as_rate
from crmd.cli.kit.session import Session, in_session
from crmd.engine.admin.views import JobView, State, not_by_filter
from crmd.engine.durations import Rate
from crmd.errors import ExitCode, RequestError

RETRY = Action(
    "retry",
    "retried",
    (State.FAILED, State.CANCELLED),
    lambda control, queue, key: control.retry(queue, key),
    lambda control, queue, key: control.retry(queue, key, by_name=False),
)
CANCEL = Action(
    "cancel",
    "cancelled",
    (State.WAITING, State.DELAYED, State.ACTIVE),
    lambda control, queue, key: control.cancel(queue, key, f"cancelled by {person()}"),
)
PROMOTE = Action(
    "promote",
    "promoted",
    (State.DELAYED,),
    lambda control, queue, key: control.promote(queue, key),
)
CLEAN = Action(
    "delete",
    "deleted",
    tuple(state for state in State if state is not State.ACTIVE),
    lambda control, queue, key: control.delete(queue, key),
)


def _command(name: str, action: Action, help: str) -> click.Command:
    """The command of an action; all four take the same arguments."""

    @pass_globals
    def run(
        options: Globals,
        queue: str,
        keys: tuple[str, ...],
        state: str | None,
        search: str | None,
        yes: bool,
        rate: Rate | None,
    ) -> int:
        if keys:
            if state or search or rate:
                raise click.UsageError("give either keys, or --state and --search, not both")
            return in_session(options, lambda session: _by_key(session, options, action, queue, keys))
        selection = Selection(queue, _state(action, state, search), search, rate)
        return in_session(options, lambda session: by_filter(session, options, action, selection, yes))

    states = ", ".join(action.states)
    parameters: list[click.Parameter] = [
        click.Argument(["queue"]),
        click.Argument(["keys"], nargs=-1, metavar="[KEY]..."),
        click.Option(["--state"], type=StateOption, metavar="STATE", help=f"All jobs in this state: {states}."),
        click.Option(["--search"], metavar="T", help="Of those, the ones that contain this text."),
        click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."),
        click.Option(
            ["--rate"], callback=as_rate, metavar="R", help="At most this many in a period, such as 10/s."
        ),
    ]
    return Command(name, callback=run, params=parameters, help=help)


retry = _command(
    "retry",
    RETRY,
    "Run failed, cancelled or unknown jobs of QUEUE again, by KEY or by --state.\n\n"
    "Their attempts start from 0. Unknown jobs are retried only by KEY: their effect may have happened.",
)
cancel = _command(
    "cancel",
    CANCEL,
    "Cancel waiting, delayed or active jobs of QUEUE, by KEY or by --state.",
)
promote = _command(
    "promote",
    PROMOTE,
    "End the delay of delayed jobs of QUEUE, by KEY or by --state delayed.",
)
clean = _command(
    "clean",
    CLEAN,
    "Delete jobs of QUEUE that are not active, by KEY or by --state.",
)


def _state(action: Action, state: str | None, search: str | None) -> State:
    if state is None:
        if search is not None and len(action.states) == 1:
            return action.states[0]
        raise click.UsageError("name jobs by their keys, or say --state, to which --search may be added")
    if State(state) not in action.states:
        raise click.UsageError(not_by_filter(State(state), action.done, action.states))
    return State(state)


async def _by_key(session: Session, options: Globals, action: Action, queue: str, keys: tuple[str, ...]) -> int:
    session.require([queue])
    results: list[dict[str, Any]] = []
    for key in dict.fromkeys(keys):
        try:
            view = await action.act(session.admin.control, queue, key)
        except RequestError as error:
            complain(str(error))
            continue
        results.append(view.to_json() if view else {"queue": queue, "key": key, "deleted": True})
        if not options.json:
            click.echo(f"{output.clean(key)}: {_said(action, view)}")
    if options.json:
        print_json(results)
    return ExitCode.OK if len(results) == len(set(keys)) else ExitCode.FAILED


def _said(action: Action, view: JobView | None) -> str:
    if action is CANCEL and view is not None and view.state is State.ACTIVE:
        return "is asked to stop"
    return action.done
