"""The address of the database: `database.url`, read and checked."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from crmd.formatting import mask_url

FILE_NAME = "records.sqlite"
"""In the state folder, where no URL is given."""
SQLITE = "sqlite"
POSTGRESQL = "postgresql"

POSTGRESQL_OPTIONS = frozenset(
    {
        "host",
        "port",
        "user",
        "password",
        "database",
        "dbname",
        "passfile",
        "application_name",
        "options",
        "target_session_attrs",
        "sslmode",
        "sslnegotiation",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
    }
)
"""What may stand behind the `?`; the driver would pass anything else on to the server, which refuses it."""
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_WITHOUT_MEANING = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
"""Options of libpq that services put into the URLs they give out, and that our driver does not have."""


@dataclass(frozen=True, slots=True)
class Address:
    """An SQLite file, or a PostgreSQL database."""

    kind: str
    """SQLITE or POSTGRESQL."""
    path: Path | None
    """Of the SQLite file."""
    dsn: str = field(default="", repr=False)
    """Of PostgreSQL; it may hold a password."""

    @property
    def masked(self) -> str:
        """Without credentials, for logs and errors."""
        return str(self.path) if self.path else mask_url(self.dsn)

    @classmethod
    def parse(cls, url: str, folder: Path) -> Address:
        """Reads a URL; an empty one is a file in `folder`. Raises ValueError that says what to write instead."""
        if not url:
            return cls(SQLITE, folder / FILE_NAME)
        if urlsplit(url).scheme == SQLITE:
            return cls(SQLITE, _sqlite_path(url))
        if importlib.util.find_spec("asyncpg") is None:
            raise ValueError("the driver of PostgreSQL is not installed; run: pip install 'crmd[postgres]'")
        return cls(POSTGRESQL, None, _postgresql_dsn(url))


def _sqlite_path(url: str) -> Path:
    parts = urlsplit(url)
    # sqlite:///relative/path and sqlite:////absolute/path, as SQLAlchemy has them
    path = parts.path.removeprefix("/")
    if parts.netloc or not path or path == ":memory:":
        raise ValueError("names no file; write it like sqlite:////var/lib/crm/records.sqlite")
    if parts.query:
        raise ValueError("an SQLite file takes no options; end the URL with the file's name")
    return Path(path)


def _postgresql_dsn(url: str) -> str:
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    unknown = sorted({name for name, _ in options} - POSTGRESQL_OPTIONS - _WITHOUT_MEANING)
    if unknown:
        known = ", ".join(sorted(POSTGRESQL_OPTIONS))
        raise ValueError(f"option {unknown[0]} is not known; take it out, or write one of {known}")
    for name, value in options:
        if name in _FILES and not Path(value).is_file():
            raise ValueError(f"{name}: there is no file {value}")
    kept = [(name, value) for name, value in options if name not in _WITHOUT_MEANING]
    return urlunsplit((POSTGRESQL, parts.netloc, parts.path, urlencode(kept), ""))
