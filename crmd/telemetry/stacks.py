"""What every task and thread is doing right now."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

FRAMES_SHOWN = 30
"""Innermost frames shown of each stack."""

TASKS_SHOWN = 500
"""Tasks shown in full; more are only counted."""


def all_stacks(loop: asyncio.AbstractEventLoop) -> str:
    """The stacks of all tasks of a loop and of all threads; may be called from any thread."""
    return "\n".join([*_thread_stacks(), *_task_stacks(loop)])


def thread_stack(thread_id: int) -> str:
    """The stack of one thread by its `ident`; empty where it is gone."""
    frame = sys._current_frames().get(thread_id)
    return "".join(traceback.format_stack(frame, FRAMES_SHOWN)).rstrip() if frame else ""


def _thread_stacks() -> list[str]:
    return [
        f"thread {thread.name}:\n{thread_stack(thread.ident)}"
        for thread in threading.enumerate()
        if thread.ident is not None and thread is not threading.current_thread()
    ]


def _task_stacks(loop: asyncio.AbstractEventLoop) -> list[str]:
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    shown = [_task_stack(task) for task in tasks[:TASKS_SHOWN]]
    return [f"{len(tasks)} tasks:", *shown]


def _task_stack(task: asyncio.Task[object]) -> str:
    frames = list(_frames(task.get_coro()))[-FRAMES_SHOWN:]
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return f"task {task.get_name()}:\n{''.join(summary.format()).rstrip()}"


def _frames(awaited: object) -> Iterator[FrameType]:
    """Where a coroutine stands and where each that it awaits does: a task itself tells only of the outermost."""
    while awaited is not None:
        # as coroutines, generators and async generators name them
        frame, inner = (
            next((found for name in names if (found := getattr(awaited, name, None)) is not None), None)
            for names in (("cr_frame", "gi_frame", "ag_frame"), ("cr_await", "gi_yieldfrom", "ag_await"))
        )
        if frame is None:
            return
        yield frame
        awaited = inner
