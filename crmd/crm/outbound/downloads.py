"""Downloads: as their URLs come from jobs, they may lead only to public addresses and to allowed networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Annotated

from aiohttp.abc import AbstractResolver
from pydantic import Field
from yarl import URL

from crmd.crm.outbound.addresses import AddressPolicy, Network, parse_target
from crmd.crm.outbound.http import Answer, Downloaded, HttpClient, NotSent, TooLarge
from crmd.crm.payload import checked_by
from crmd.errors import Permanent, Retry
from crmd.jobs import JobContext

DOWNLOAD_SECONDS = 30.0
_TRY_AGAIN = frozenset({408, 425, 429})
_MAX_NAME = 200


OptionalFileUrl = Annotated[
    Annotated[str, checked_by(parse_target)] | None,
    Field(description="https:// or http://, without a password; redirects are followed."),
]
OptionalFileId = Annotated[
    Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None,
    Field(description="Id of an uploaded file, as `POST /api/v1/files` answers."),
]


class Downloads(HttpClient):
    """Gets files by URL. A redirect is followed where its address may be reached too."""

    def __init__(
        self, *, allow_private: Iterable[Network | str] = (), resolver: AbstractResolver | None = None
    ) -> None:
        super().__init__(policy=AddressPolicy(allow_private), resolver=resolver)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched."""

    name: str
    """The last part of its address; empty where it has none."""
    media_type: str
    """As its server says, without parameters; empty where it says nothing."""
    size_bytes: int


async def fetch(ctx: JobContext, url: str, into: IO[bytes], *, max_bytes: int) -> Fetched:
    """Gets a URL into a file. Raises Permanent where trying again cannot help, else Retry."""
    target = parse_target(url)
    seconds = min(DOWNLOAD_SECONDS, ctx.remaining_seconds or DOWNLOAD_SECONDS)
    outcome = await ctx.get(Downloads).download(target, into, max_bytes=max_bytes, timeout_seconds=seconds)
    if isinstance(outcome, Downloaded):
        media_type = outcome.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Fetched(outcome.url.name[:_MAX_NAME], media_type, outcome.size_bytes)
    if isinstance(outcome, TooLarge):
        raise Permanent(f"the file at {target.host} has more than {max_bytes:,} bytes", code="too_large")
    if isinstance(outcome, Answer):
        raise _refused(outcome, target)
    if isinstance(outcome, NotSent) and outcome.forbidden:
        raise Permanent(f"the URL is refused: {outcome.reason}")
    raise Retry(f"the file at {target.host} did not come: {outcome.reason}")


def _refused(answer: Answer, target: URL) -> Permanent | Retry:
    said = f"{target.host} answered {answer.status} where the file should be"
    if answer.status in _TRY_AGAIN or answer.status >= 500:
        return Retry(said)
    return Permanent(said, code=f"http_{answer.status}")
