"""Queue `notification`: notifies the people who run the system."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Literal, TypedDict

from crmd.crm.database.database import Database
from crmd.crm.notifications import repository as notifications
from crmd.crm.notifications.client import LEVELS, LOG, Level, NotDelivered, NotifyClient
from crmd.crm.notifications.payloads import FlushNotifications, Notify
from crmd.crm.notifications.repository import Gathered
from crmd.crm.outbound.http import request_seconds
from crmd.errors import Permanent, Retry
from crmd.jobs import JobContext, job

# Left of the job's own timeout for writing down what became of the message.
_RESERVE_SECONDS = 1.0
_LOG_LEVELS: dict[Level, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Notified(TypedDict):
    """Where the notification went."""

    channel: str
    level: Level
    outcome: Literal["sent", "grouped", "below_level", "nothing"]
    """`below_level`: the channel gets more severe ones only. `nothing`: another run of the job had sent it."""


@job(queue="notification", payload=Notify)
async def notify(ctx: JobContext, payload: Notify) -> Notified:
    """Sends the notification to its channel, or lets it wait for others of its group."""
    _check_channel(ctx, payload.channel)
    if payload.channel != LOG:
        least = ctx.get(NotifyClient).least_level(payload.channel)
        if LEVELS.index(payload.level) < LEVELS.index(least):
            return Notified(channel=payload.channel, level=payload.level, outcome="below_level")
    if payload.group is not None:
        await _wait_in_group(ctx, payload, payload.group)
        return Notified(channel=payload.channel, level=payload.level, outcome="grouped")
    await _send(ctx, payload.channel, payload.title, payload.message, payload.level)
    return Notified(channel=payload.channel, level=payload.level, outcome="sent")


@job(queue="notification", payload=FlushNotifications)
async def flush_notifications(ctx: JobContext, payload: FlushNotifications) -> Notified:
    """Sends what waits of a group as one message."""
    _check_channel(ctx, payload.channel)
    database = ctx.get(Database)
    async with database.transaction() as s:
        waiting = await notifications.gather(s, payload.channel, payload.group, datetime.now(UTC))
    if waiting is None:
        return Notified(channel=payload.channel, level="info", outcome="nothing")
    level = max((level for level in LEVELS if level in waiting.levels), key=LEVELS.index)
    title, text = _together(payload.group, waiting)
    await _send(ctx, payload.channel, title, text, level)
    now = datetime.now(UTC)
    async with database.transaction() as s:
        opened_at = await notifications.close(s, payload.channel, payload.group, waiting.last_id, now)
    if opened_at is not None:
        await _flush_later(ctx, payload.channel, payload.group, opened_at)
    return Notified(channel=payload.channel, level=level, outcome="sent")


async def _wait_in_group(ctx: JobContext, payload: Notify, group: str) -> None:
    text = f"{payload.title}: {payload.message}" if payload.title else payload.message
    added = datetime.fromtimestamp(ctx.enqueued_at, UTC)
    async with ctx.get(Database).transaction() as s:
        opened_at = await notifications.add(
            s,
            payload.channel,
            group,
            job=(ctx.key, added),
            level=payload.level,
            text=text,
            now=datetime.now(UTC),
        )
    # By each notification: one that died here is run again, and a flush that failed for good starts over.
    await _flush_later(ctx, payload.channel, group, opened_at)


async def _flush_later(ctx: JobContext, channel: str, group: str, opened_at: datetime) -> None:
    """Adds the job that sends the group, once for each time that the group was opened."""
    digest = hashlib.sha256(group.encode()).hexdigest()[:16]
    key = f"flush:{channel}:{digest}:{round(opened_at.timestamp() * 1000)}"
    due = opened_at + timedelta(seconds=ctx.get(NotifyClient).group_window_seconds)
    await ctx.enqueue(
        "notification", "flush_notifications", FlushNotifications(channel=channel, group=group), key=key, at=due
    )


def _together(group: str, waiting: Gathered) -> tuple[str | None, str]:
    """Title and text of a group's message; a single notification stays as it is."""
    if waiting.count == 1:
        return None, waiting.texts[0]
    lines = [f"- {text}" for text in waiting.texts]
    if more := waiting.count - len(waiting.texts):
        lines.append(f"… and {more:,} more")
    return f"{group}: {waiting.count:,} notifications", "\n".join(lines)


def _check_channel(ctx: JobContext, channel: str) -> None:
    if channel != LOG and channel not in ctx.get(NotifyClient).names:
        known = ", ".join(ctx.get(NotifyClient).names)
        raise Permanent(f"no channel is named {channel!r}; there are: {known}", code="unknown_channel")


async def _send(ctx: JobContext, channel: str, title: str | None, text: str, level: Level) -> None:
    """Sends one message; raises Permanent and Retry."""
    if channel == LOG:
        _write(ctx, title, text, level)
        return
    client = ctx.get(NotifyClient)
    longest = request_seconds(ctx, client.timeout_seconds, _RESERVE_SECONDS)
    outcome = await client.send(channel, title=title, text=text, level=level, timeout_seconds=longest)
    if isinstance(outcome, NotDelivered):
        said = f"channel {channel}: {outcome.reason}"
        raise Permanent(said) if outcome.final else Retry(said)


def _write(ctx: JobContext, title: str | None, text: str, level: Level) -> None:
    """Writes the notification to the log, as one line."""
    line = f"{title}: {text}" if title else text
    fields = {"channel": LOG, "level": level}
    ctx.log.log(_LOG_LEVELS[level], "notification: %s", _on_one_line(line), extra={"fields": fields})


def _on_one_line(text: str) -> str:
    # a text with line ends or terminal codes could pass itself off as other log lines
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
