"""Acks that could not be written before the daemon had to stop: kept in the state folder until its next start."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts
from crmd.errors import CrmdError, StoreFull, StoreUnavailable, StoreUnusable

FILE = "outcomes.json"
LASTING = (StoreUnavailable, StoreFull, StoreUnusable)
"""What the store answers to all acks alike. Anything else is about the ack, or about its queue."""
REASONS_MAX = 5

_log = logging.getLogger(__name__)


class PrivateFiles(Protocol):
    """Where they are kept: files for their owner only."""

    def write_private(self, name: str, text: str) -> Any:
        """Writes a file, whole or not at all."""

    def read_private_bytes(self, name: str) -> bytes | None:
        """What a file holds, if there is one."""

    def delete_private(self, name: str) -> None:
        """Deletes a file, if there is one."""

    def set_aside(self, name: str) -> str:
        """Renames a file so that a person can look at it; returns its new path. Only the newest few are kept."""


class MemoryFiles:
    """Files that end with the process: for a program whose jobs may run twice where it stops without the store."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def write_private(self, name: str, text: str) -> None:
        """Keeps a file."""
        self.files[name] = text

    def read_private_bytes(self, name: str) -> bytes | None:
        """What a file holds, if there is one."""
        return self.files[name].encode() if name in self.files else None

    def delete_private(self, name: str) -> None:
        """Drops a file, if there is one."""
        self.files.pop(name, None)

    def set_aside(self, name: str) -> str:
        """Renames a file; returns its new name."""
        aside = f"{name} set aside"
        self.files[aside] = self.files.pop(name)
        return aside


@dataclass(slots=True)
class PendingAcks:
    """The acks that could be read from the file, and why others could not."""

    acks: dict[str, list[Ack]] = field(default_factory=dict)
    """By queue."""
    unreadable: str | None = None
    """Why some of it, or all, cannot be read."""


def save(files: PrivateFiles, acks: Mapping[str, list[Ack]]) -> None:
    """Adds acks, by queue, to those that are kept already."""
    kept = load(files)
    if kept.unreadable:
        _tell(files.set_aside(FILE), kept.unreadable)
    for queue, unwritten in acks.items():
        kept.acks.setdefault(queue, []).extend(unwritten)
    document = {queue: [_pack(ack) for ack in of_queue] for queue, of_queue in kept.acks.items()}
    files.write_private(FILE, orjson.dumps(document).decode())


def load(files: PrivateFiles) -> PendingAcks:
    """The acks that are kept; never raises for what the file holds."""
    raw = files.read_private_bytes(FILE)
    if not raw:
        return PendingAcks()
    try:
        document = orjson.loads(raw)
    except ValueError as error:
        return PendingAcks(unreadable=f"it is not JSON ({error})")
    if not isinstance(document, dict):
        return PendingAcks(unreadable="it is not an object of queues")
    kept = PendingAcks()
    for queue, entries in document.items():
        for fields in entries if isinstance(entries, list) else [entries]:
            try:
                kept.acks.setdefault(queue, []).append(_unpack(fields))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                kept.unreadable = f"an outcome of queue {queue} is not one ({type(error).__name__}: {error})"
    return kept


async def write(files: PrivateFiles, queues: Mapping[str, QueueScripts]) -> None:
    """Writes the pending acks to the store. What is refused or unreadable is set aside, and the rest is written.

    Raises StoreUnavailable, StoreFull or StoreUnusable where the store takes no ack at all; all are kept then.
    """
    kept = load(files)
    written, refused = 0, [kept.unreadable] if kept.unreadable else []
    for name, acks in kept.acks.items():
        if name not in queues:
            refused.append(f"no queue {name} is configured")
            continue
        for start in range(0, len(acks), MAX_JOBS_PER_CALL):
            batch = acks[start : start + MAX_JOBS_PER_CALL]
            count, why = await _settle(queues[name], batch)
            written += count
            refused += [why] if why else []
    if written:
        _log.info("wrote %d outcomes that the last stop had to keep", written)
    if refused:
        _tell(files.set_aside(FILE), "; ".join(refused[:REASONS_MAX]))
    elif kept.acks:
        files.delete_private(FILE)


async def _settle(queue: QueueScripts, batch: list[Ack]) -> tuple[int, str | None]:
    """Writes acks, in halves where they are refused together; how many, and why others are not."""
    try:
        await queue.settle(batch)
    except LASTING:
        raise
    except CrmdError as error:
        if len(batch) == 1:
            return 0, f"queue {queue.keys.name}: {error}"
        middle = len(batch) // 2
        first, why = await _settle(queue, batch[:middle])
        second, why_second = await _settle(queue, batch[middle:])
        return first + second, why or why_second
    return len(batch), None


def _tell(path: str, why: str) -> None:
    _log.error(
        "outcomes kept by the last stop cannot be written and are set aside in %s: %s; fix the cause; the file is "
        "kept for you to inspect. Their jobs run again, or end as unknown where an effect had begun",
        path,
        why,
    )


def _pack(ack: Ack) -> dict[str, Any]:
    return {
        "id": ack.job_id,
        "token": ack.token,
        "kind": ack.kind.name,
        "document": base64.b64encode(ack.document).decode(),
        "number": ack.number,
        "entry": base64.b64encode(ack.entry).decode(),
        "marked": ack.marked,
    }


def _unpack(fields: dict[str, Any]) -> Ack:
    job_id, token, number = fields["id"], fields["token"], fields["number"]
    if not (isinstance(job_id, str) and isinstance(token, str) and isinstance(number, int)):
        raise TypeError("id, token or number is of a wrong type")
    return Ack(
        job_id,
        token,
        AckKind[fields["kind"]],
        base64.b64decode(fields["document"], validate=True),
        number,
        base64.b64decode(fields["entry"], validate=True),
        bool(fields["marked"]),
    )
