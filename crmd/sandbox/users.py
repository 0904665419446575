"""WhatsApp's users: what they write to the business, and the files they send."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import math
import secrets
import struct
import wave
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crmd.sandbox.callback import Callback
from crmd.sandbox.journal import Entry, Journal, Kind, excerpt
from crmd.sandbox.limits import Throughput
from crmd.sandbox.settings import SandboxSettings

WINDOW_SECONDS = 24 * 3600.0
MAX_USERS = 100_000
MAX_FILES = 50
MAX_UNDER_WAY = 1000


class Inbound(BaseModel):
    """A message that a user sends; exactly one of `text`, `button`, `audio`, `message`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sender: Annotated[str, Field(alias="from", pattern=r"^\+?[0-9]{5,20}$")]
    name: Annotated[str, Field(max_length=200)] = "Sandbox User"
    text: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    button: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Title of a reply button that was pressed; its id is the same."""
    audio: Annotated[float, Field(gt=0, le=30)] | None = None
    """Seconds of a voice message; its sound is a plain tone."""
    message: dict[str, Any] | None = None
    """`type` and content in Meta's own shape, for everything else."""
    reply_to: Annotated[str, Field(max_length=256)] | None = None
    """The wamid of the message that it answers."""
    timestamp: Annotated[int, Field(ge=0, le=2**40)] | None = None
    """When it was written, in epoch seconds; left out: now."""

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [name for name in ("text", "button", "audio", "message") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of text, button, audio and message")
        if self.message is not None and not isinstance(self.message.get("type"), str):
            raise ValueError("message needs a type")
        return self

    @property
    def digits(self) -> str:
        """The sender's WhatsApp id."""
        return self.sender.removeprefix("+")


class Preference(BaseModel):
    """What a user chooses about the business's marketing."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    sender: Annotated[str, Field(alias="from", pattern=r"^\+?[0-9]{5,20}$")]
    value: Literal["stop", "resume"]
    timestamp: Annotated[int, Field(ge=0, le=2**40)] | None = None
    """Epoch seconds; left out: now."""


class OtherNumber(BaseModel):
    """A number that WhatsApp has in another form, as it does in Brazil, Mexico and Argentina."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[str, Field(pattern=r"^\+?[0-9]{5,20}$")]
    wa_id: Annotated[str, Field(pattern=r"^[0-9]{5,20}$")]


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file that a user sent."""

    content: bytes
    mime_type: str
    id: str = field(default_factory=lambda: str(secrets.randbelow(10**15) + 10**15))

    @property
    def sha256(self) -> str:
        """As Meta gives it: base64 in webhooks."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


class Users:
    """Sends what users write to the callback, and remembers when they last wrote."""

    def __init__(
        self,
        settings: SandboxSettings,
        callback: Callback,
        journal: Journal,
        throughput: Throughput,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._callback = callback
        self._journal = journal
        self._throughput = throughput
        self._clock = clock
        self._wrote_at: OrderedDict[str, float] = OrderedDict()
        self._files: OrderedDict[str, MediaFile] = OrderedDict()
        self._wa_ids: OrderedDict[str, str] = OrderedDict()
        self._tasks: set[asyncio.Task[object]] = set()

    def write(self, inbound: Inbound) -> Entry:
        """Sends a message to the callback, in the background. Raises ValueError where too many wait for it."""
        if len(self._tasks) >= MAX_UNDER_WAY:
            raise ValueError(f"{MAX_UNDER_WAY} inbound messages wait for the callback already")
        now = self._clock()
        self._wrote_at[inbound.digits] = now
        self._wrote_at.move_to_end(inbound.digits)
        if len(self._wrote_at) > MAX_USERS:
            self._wrote_at.popitem(last=False)
        self._throughput.count(now)
        content = self._content(inbound)
        wamid = f"wamid.{secrets.token_urlsafe(30)}"
        entry = self._journal.add(
            Kind.INBOUND,
            sender=inbound.digits,
            name=inbound.name,
            type=content["type"],
            text=excerpt(inbound.text or inbound.button or content["type"]),
            wamid=wamid,
            state="under way",
        )
        written_at = int(now) if inbound.timestamp is None else inbound.timestamp
        message = {"from": inbound.digits, "id": wamid, "timestamp": str(written_at), **content}
        if inbound.reply_to:
            message["context"] = {"from": self._settings.display_phone_number, "id": inbound.reply_to}
        contact = {"profile": {"name": inbound.name}, "wa_id": inbound.digits}
        self._begin(self._deliver(entry, {"contacts": [contact], "messages": [message]}))
        return entry

    def choose(self, preference: Preference) -> None:
        """Tells the callback what a user chose, in the background. Raises ValueError where too many wait."""
        if len(self._tasks) >= MAX_UNDER_WAY:
            raise ValueError(f"{MAX_UNDER_WAY} inbound messages wait for the callback already")
        digits = preference.sender.removeprefix("+")
        chosen = {
            "wa_id": digits,
            "detail": "User requested to stop marketing messages"
            if preference.value == "stop"
            else "User requested to resume marketing messages",
            "category": "marketing_messages",
            "value": preference.value,
            "timestamp": int(self._clock()) if preference.timestamp is None else preference.timestamp,
        }
        value = {"contacts": [{"profile": {"name": ""}, "wa_id": digits}], "user_preferences": [chosen]}
        self._begin(self._callback.deliver(value, name="user_preferences"))

    def know_as(self, other: OtherNumber) -> None:
        """From now on WhatsApp has this number in the other form."""
        self._wa_ids[other.number.removeprefix("+")] = other.wa_id
        if len(self._wa_ids) > MAX_USERS:
            self._wa_ids.popitem(last=False)

    def wa_id(self, digits: str) -> str:
        """A number as WhatsApp has it."""
        return self._wa_ids.get(digits, digits)

    def mark_read(self, wamid: str) -> bool:
        """Notes that the business read a message; says whether it is known."""
        for entry in self._journal.entries(Kind.INBOUND):
            if entry.fields["wamid"] == wamid:
                self._journal.change(entry, state="read")
                return True
        return False

    def in_window(self, digits: str) -> bool:
        """Whether the user wrote within the last 24 hours."""
        wrote_at = self._wrote_at.get(digits)
        return wrote_at is not None and self._clock() - wrote_at < WINDOW_SECONDS

    def media(self, media_id: str) -> MediaFile | None:
        """A file that a user sent, if it is still kept."""
        return self._files.get(media_id)

    async def stop(self) -> None:
        """Ends what is under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, telling: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(telling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, entry: Entry, value: dict[str, Any]) -> None:
        taken = await self._callback.deliver(value)
        if entry.fields["state"] != "read":
            self._journal.change(entry, state="delivered" if taken else "not taken")

    def _content(self, inbound: Inbound) -> dict[str, Any]:
        if inbound.text is not None:
            return {"type": "text", "text": {"body": inbound.text}}
        if inbound.button is not None:
            reply = {"type": "button_reply", "button_reply": {"id": inbound.button, "title": inbound.button}}
            return {"type": "interactive", "interactive": reply}
        if inbound.audio is not None:
            kept = self._keep(MediaFile(_tone(inbound.audio), "audio/wav"))
            told = {"id": kept.id, "mime_type": kept.mime_type, "sha256": kept.sha256, "voice": True}
            return {"type": "audio", "audio": told}
        return inbound.message or {}

    def _keep(self, made: MediaFile) -> MediaFile:
        self._files[made.id] = made
        if len(self._files) > MAX_FILES:
            self._files.popitem(last=False)
        return made


def _tone(seconds: float, rate: int = 8000, hertz: int = 440) -> bytes:
    """A WAV file with a plain tone."""
    samples = (int(12_000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(seconds * rate)))
    raw = io.BytesIO()
    with wave.open(raw, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return raw.getvalue()
