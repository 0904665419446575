"""The payloads of queue `notification`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crmd.crm.notifications.client import LOG, Level
from crmd.crm.payload import NotBlank, Payload

ChannelName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_-]{1,64}$", description="A channel from the configuration; `log` is the daemon's log."
    ),
]
GroupName = Annotated[NotBlank, Field(max_length=200)]
_GROUP_TEXT = "Notifications of one group within `notify.group_window` go out as one."


class Notify(Payload):
    """A notification."""

    message: Annotated[NotBlank, Field(max_length=4000, description="What happened.")]
    title: Annotated[Annotated[NotBlank, Field(max_length=200)] | None, Field(description="Its first line.")] = (
        None
    )
    level: Annotated[Level, Field(description="How severe it is; a channel may skip less severe ones.")] = "info"
    channel: ChannelName = LOG
    group: Annotated[GroupName | None, Field(description=_GROUP_TEXT)] = None


class FlushNotifications(Payload):
    """A group whose time has come; `notify` adds this job."""

    channel: ChannelName
    group: Annotated[GroupName, Field(description=_GROUP_TEXT)]
