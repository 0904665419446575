"""What the two busiest scripts take and answer: jobs to add, and a worker's trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crmd.engine.store.replies import Claimed, Kind, NewDocument, Outcome, text


def document_args(documents: Sequence[NewDocument]) -> list[str | bytes | int]:
    """Jobs to add as arguments: the width of an entry, and the entries; short ones where no job is special."""
    args: list[str | bytes | int] = [2]
    for new in documents:
        if new.delay_ms >= 0 or new.due_ms >= 0 or new.priority or new.unique_ms or new.again:
            break
        args.append(new.job_id)
        args.append(new.document)
    else:
        return args
    args = [7]
    for new in documents:
        args += (new.job_id, new.document, new.delay_ms, new.due_ms, new.priority, new.unique_ms, int(new.again))
    return args


def outcome_args(outcomes: Sequence[Outcome]) -> list[str | bytes | int]:
    """Outcomes as arguments: completed jobs of one lease as a group, two arguments a job; then all others."""
    groups: dict[str, list[str | bytes | int]] = {}
    others: list[str | bytes | int] = []
    for o in outcomes:
        if o.kind is Kind.COMPLETE and not (o.marked or o.number or o.entry) and o.document:
            try:
                group = groups[o.token]
            except KeyError:
                group = groups[o.token] = []
            group.append(o.job_id)
            group.append(o.document)
        else:
            others += (o.job_id, o.token, o.kind.value, o.document, o.number, o.entry, int(o.marked))
    args: list[str | bytes | int] = [len(groups)]
    for token, group in groups.items():
        args += (token, len(group) // 2)
        args += group
    return args + others


def read_claim(reply: Sequence[Any]) -> Claimed:
    """A claim's answer."""
    reason, wait, due, suspects, flat, ghosts, crashed, clock, correction = reply
    claimed = Claimed(
        reason.decode(), wait, due, suspects, clock, correction, ghosts=[text(ghost) for ghost in ghosts]
    )
    deaths = {crashed[i]: int(crashed[i + 1]) for i in range(0, len(crashed), 2)}
    for i in range(0, len(flat), 2):
        raw_id = flat[i]
        try:
            claimed.jobs.append((raw_id.decode(), flat[i + 1], deaths.get(raw_id, 0) if deaths else 0))
        except UnicodeDecodeError:
            claimed.nameless.append((raw_id, flat[i + 1]))
    return claimed
