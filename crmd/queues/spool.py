"""Outcomes that could not be written before the daemon had to stop: kept until its next start."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from crmd.store.replies import Kind, Outcome

FILE = "outcomes.json"


class PrivateFiles(Protocol):
    """Where the spool lies: files for their owner only."""

    def write_private(self, name: str, text: str) -> Any:
        """Writes a file, whole or not at all."""

    def read_private(self, name: str) -> str | None:
        """A file's text, if there is one."""

    def delete_private(self, name: str) -> None:
        """Deletes a file, if there is one."""


def save(files: PrivateFiles, outcomes: Mapping[str, list[Outcome]]) -> None:
    """Adds outcomes, by queue, to what is spooled already."""
    spooled = load(files)
    for queue, unwritten in outcomes.items():
        spooled.setdefault(queue, []).extend(unwritten)
    document = {queue: [_pack(outcome) for outcome in kept] for queue, kept in spooled.items()}
    files.write_private(FILE, orjson.dumps(document).decode())


def load(files: PrivateFiles) -> dict[str, list[Outcome]]:
    """What is spooled, by queue."""
    text = files.read_private(FILE)
    if not text:
        return {}
    return {queue: [_unpack(fields) for fields in kept] for queue, kept in orjson.loads(text).items()}


def clear(files: PrivateFiles) -> None:
    """Forgets what is spooled, once it is written."""
    files.delete_private(FILE)


def _pack(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.job_id,
        "token": outcome.token,
        "kind": outcome.kind.name,
        "document": base64.b64encode(outcome.document).decode(),
        "number": outcome.number,
        "entry": base64.b64encode(outcome.entry).decode(),
        "marked": outcome.marked,
    }


def _unpack(fields: dict[str, Any]) -> Outcome:
    return Outcome(
        fields["id"],
        fields["token"],
        Kind[fields["kind"]],
        base64.b64decode(fields["document"]),
        fields["number"],
        base64.b64decode(fields["entry"]),
        fields["marked"],
    )
