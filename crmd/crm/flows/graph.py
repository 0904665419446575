"""Where a flow's steps lead: unknown targets, unreachable steps, loops that never wait.

It looks at definitions as they were written, so that these mistakes are found beside all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Raw = Mapping[str, Any]
Found = tuple[str, str, str]
"""A mistake: the step's id, its field, the reason."""

_WAITING = ("wait", "wait_for_reply")


def graph_problems(steps: Sequence[Raw]) -> Iterator[Found]:
    """All mistakes in where the steps lead; steps without an id lead nowhere."""
    named: dict[str, tuple[int, Raw]] = {}
    for index, step in enumerate(steps):
        step_id = step.get("id")
        if not isinstance(step_id, str):
            continue
        if step_id in named:
            yield step_id, "id", f"is the id of steps {named[step_id][0] + 1} and {index + 1}"
        else:
            named[step_id] = (index, step)
    exits = {step_id: list(_exits(steps, *place)) for step_id, place in named.items()}
    for step_id, found in exits.items():
        for field, target in found:
            if target not in named:
                yield step_id, field, f'there is no step "{target}"'
    edges = {step_id: [target for _, target in found if target in named] for step_id, found in exits.items()}
    if named:
        yield from _unreachable(edges, first=next(iter(named)))
    waiting = {step_id for step_id, (_, step) in named.items() if step.get("type") in _WAITING}
    yield from _busy_loops({one: targets for one, targets in edges.items() if one not in waiting})


def _exits(steps: Sequence[Raw], index: int, step: Raw) -> Iterator[tuple[str, str]]:
    """The ids that a step may be followed by, each with the field that says so."""
    below = steps[index + 1].get("id") if index + 1 < len(steps) else None
    match step.get("type"):
        case "end":
            return
        case "branch":
            cases = step.get("cases")
            for number, case in enumerate(cases if isinstance(cases, list) else []):
                yield from _exit(case, "next", f"cases.{number}.next")
            yield from _exit(step, "else")
        case "wait_for_reply":
            yield from _exit(step, "on_reply", default=below)
            yield from _exit(step, "on_timeout")
        case _:
            yield from _exit(step, "next", default=below)


def _exit(holder: Any, name: str, field: str = "", default: Any = None) -> Iterator[tuple[str, str]]:
    target = holder.get(name) if isinstance(holder, Mapping) else None
    target = default if target is None else target
    if isinstance(target, str):
        yield field or name, target


def _unreachable(edges: Mapping[str, list[str]], first: str) -> Iterator[Found]:
    reached, waiting = {first}, [first]
    while waiting:
        new = [target for target in edges[waiting.pop()] if target not in reached]
        reached.update(new)
        waiting += new
    for step_id in edges:
        if step_id not in reached:
            yield step_id, "", "no step leads here"


def _busy_loops(edges: Mapping[str, list[str]]) -> Iterator[Found]:
    """Each loop among steps that do not wait, by the step that closes it."""
    done: set[str] = set()
    for start in edges:
        path = [start] if start not in done else []
        left = [iter(edges[start])]
        while path:
            target = next((one for one in left[-1] if one in edges and one not in done), None)
            if target is None:
                done.add(path.pop())
                left.pop()
            elif target in path:
                loop = [*path[path.index(target) :], target]
                yield target, "", f"the loop {' → '.join(loop)} never waits: put a wait or wait_for_reply into it"
            else:
                path.append(target)
                left.append(iter(edges[target]))
