"""Queue `notification`: tells the people who run the system something."""

from __future__ import annotations

import logging
from typing import Annotated, Literal, TypedDict

from pydantic import Field

from crmd.handlers.payload import NotBlank, Payload
from crmd.jobs import JobContext, job

Level = Literal["info", "warning", "error"]
Channel = Literal["log"]

_LOG_LEVELS: dict[Level, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Notify(Payload):
    """A notification."""

    message: Annotated[NotBlank, Field(max_length=4000)]
    title: Annotated[NotBlank, Field(max_length=200)] | None = None
    level: Level = "info"
    channel: Annotated[Channel, Field(description="Where it goes; `log` is the daemon's log.")] = "log"


class Notified(TypedDict):
    """Where the notification went."""

    channel: Channel
    level: Level


@job(queue="notification", payload=Notify)
async def notify(ctx: JobContext, payload: Notify) -> Notified:
    """Writes the notification to the log, as one line."""
    text = f"{payload.title}: {payload.message}" if payload.title else payload.message
    fields = {"channel": payload.channel, "level": payload.level}
    ctx.log.log(_LOG_LEVELS[payload.level], "notification: %s", _on_one_line(text), extra={"fields": fields})
    return Notified(channel=payload.channel, level=payload.level)


def _on_one_line(text: str) -> str:
    # a text with line ends or terminal codes could pass itself off as other log lines
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
