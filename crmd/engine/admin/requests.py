"""Requests that may be repeated: what an `Idempotency-Key` covers, and the keys of the jobs that it adds."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from crmd.engine.admin.views import NewJob
from crmd.errors import InvalidPayload, RequestError

MAX_JOBS = 1_000
"""One script adds them all, or none: some 20 ms of the store."""
STORE_OWNER = "store"
"""Whose the requests are of who reaches the store itself: programs and the command line."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Names one request; `key` is the owner's own, and means nothing to others."""

    owner: str
    key: str

    @property
    def digest(self) -> bytes:
        """Its name in the store, 12 bytes."""
        return hashlib.sha256(f"{self.owner}\n{self.key}".encode()).digest()[:12]


class Fingerprint:
    """Of a request's jobs: 8 bytes that differ where the jobs do; the order of an object's members is ignored."""

    def __init__(self, *, many: bool) -> None:
        self._whole = hashlib.sha256(b"many" if many else b"one")

    def add(self, new: NewJob) -> int:
        """Takes the next job in, and says how many bytes it is; raises InvalidPayload for what is not JSON."""
        fields = (new.job, new.payload, new.key, new.delay, new.at, new.priority, new.unique_for)
        try:
            text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidPayload(f"the payload is not JSON: {error}") from None
        self._whole.update(text)
        return len(text)

    def digest(self) -> bytes:
        """The fingerprint of the jobs that were added."""
        return self._whole.digest()[:8]


def check_request_key(text: str) -> str:
    """The key that a header or an option says, without the quotes of its draft's form; raises RequestError."""
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not _KEY.fullmatch(key):
        raise RequestError("an idempotency key is 1 to 255 visible ASCII characters, in quotes or without them")
    return key


def made_keys(time_ms: int, digest: bytes, count: int) -> list[str]:
    """Keys of a request's jobs: as those that are drawn by chance, but the same again from record and request."""
    head = f"{time_ms:012x}{digest[:8].hex()}"
    return [f"{head}{number:04x}" for number in range(count)]
