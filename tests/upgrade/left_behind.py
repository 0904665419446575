"""What the data of 0.1.0 in `data/` hold: made so by `make_data`, and expected so by the tests.

`embedded.tar.xz` is the state folder of a daemon that was killed with its embedded store and SQLite.
`external.tar.xz` is the state folder of a daemon that was stopped, with the `dump.rdb` of its Redis and the
`records.sql` of its PostgreSQL. The JSON beside each tells whom the stand-in had messages for by then.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
NAMES = ("embedded", "external")

FAILED = "was-failed"
UNKNOWN = "was-unknown"
COMPLETED = "was-completed"
WAITING = ("was-waiting-1", "was-waiting-2", "was-waiting-first")
"""The last one has priority 1."""
PLAIN = "was-waiting-plain"
"""Added by a program that knows only SAQ."""
DUE = "was-delayed-until-then"
LATER = "was-delayed-for-long"
LATER_AT = "2100-01-01T00:00:00Z"
PAUSE_REASON = "the other side moves house"
LIMIT = "2/d"
"""Set by hand on the queue of the test handlers."""
LIMIT_STARTS = 2

CAMPAIGN = "was-under-way"
CANARY = 12
CONTACTS = 24
TAG = "club"
CONCURRENCY = 4
MESSAGE_QUEUE = f'[queues.message]\nrate_limit = "{{rate}}"\nconcurrency = {CONCURRENCY}\n'


def phone(number: int) -> str:
    """The number of a contact."""
    return f"+49151000000{number:02}"


AUDIENCE = frozenset(phone(number) for number in range(CONTACTS))
OPTED_OUT = phone(CONTACTS - 1)
"""Wrote STOP before the campaign began."""


WHATSAPP_KEYS = ("base_url", "phone_number_id", "token", "app_secret", "verify_token")
"""Of the stand-in's table, those that 0.1.0 knows."""


def whatsapp_table(table: str) -> str:
    """The stand-in's table for a daemon of 0.1.0."""
    lines = table.splitlines()
    return "\n".join(line for line in lines if line.startswith(("[", *WHATSAPP_KEYS)))


@dataclass(frozen=True)
class Sent:
    """What the stand-in for WhatsApp had seen in the end."""

    taken: list[str]
    """Numbers whose message it took."""
    unanswered: int
    """Messages that had no answer when the daemon was killed."""


def unpack(name: str, folder: Path) -> Sent:
    """Unpacks one of the two into a folder."""
    with tarfile.open(DATA / f"{name}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return Sent(**json.loads((DATA / f"{name}.json").read_text()))


def pack(name: str, folder: Path, sent: Sent) -> None:
    """Packs a folder, so that nothing tells where or by whom it was made."""
    DATA.mkdir(exist_ok=True)
    with tarfile.open(DATA / f"{name}.tar.xz", "w:xz", preset=9) as tar:
        tar.add(folder, ".", filter=_anonymous)
    (DATA / f"{name}.json").write_text(json.dumps(asdict(sent), indent=2) + "\n")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member
