"""What an error of the database means: it is unavailable or busy, it cannot be used, or a statement is wrong."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from crmd.errors import RecordsUnavailable

_PASSING_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_PASSING_POSTGRESQL = ("08", "53", "57P", "58", "40", "55P03", "25006", "25P03")
"""SQLSTATEs, or how they begin: connection, resources, shut down, system; a lost race, a lock not had in time,
a standby that takes no writes, a transaction that was idle for too long."""
_LOST_RACE = ("40001", "40P01")
"""It could not be put in order with another transaction, or each waited for the other."""
_UNUSABLE_POSTGRESQL = ("28", "3D000", "3F000", "42501", "42P07", "42704", "22023")
"""Wrong credentials, no such database or schema, no rights, tables of somebody else, settings it does not have."""
_UNUSABLE_SQLITE = frozenset(
    {
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ERROR,
    }
)


def translate(context: ExceptionContext) -> RecordsUnavailable | None:
    """For SQLAlchemy's `handle_error`: a passing error becomes RecordsUnavailable, whoever ran the statement."""
    error = context.original_exception
    if isinstance(error, Exception) and (context.is_disconnect or is_passing(error)):
        return RecordsUnavailable(reason(error))
    return None


def is_passing(error: BaseException) -> bool:
    """Whether the database is unavailable or busy, so that the same may succeed later."""
    original = _original(error)
    if isinstance(original, OSError | PoolTimeout):  # TimeoutError is an OSError
        return True
    if isinstance(original, sqlite3.Error):
        return _sqlite_code(original) in _PASSING_SQLITE
    state = _state(original)
    if state:
        return state.startswith(_PASSING_POSTGRESQL)
    # Errors of the driver itself have no state: the connection was closed, or is being closed.
    return "connection" in str(original).lower() and type(original).__module__.startswith(
        ("asyncpg", "sqlalchemy")
    )


def lost_race(error: RecordsUnavailable) -> bool:
    """Whether PostgreSQL rolled the transaction back for the sake of another one: it may be run again at once."""
    cause = error.__cause__
    return cause is not None and _state(_original(cause)) in _LOST_RACE


def is_unusable(error: BaseException) -> bool:
    """Whether a person has to mend something before the database can be opened."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return _sqlite_code(original) in _UNUSABLE_SQLITE
    if isinstance(original, ValueError):  # what the driver says of its settings, or TLS of a certificate
        return type(original).__module__.startswith(("asyncpg", "ssl"))
    return _state(original).startswith(_UNUSABLE_POSTGRESQL)


def reason(error: BaseException) -> str:
    """The first line of what the driver says; further ones may hold values."""
    original = _original(error)
    text = (str(original).splitlines() or [""])[0].removeprefix(f"{type(original)}: ")
    return text or type(original).__name__


def _original(error: BaseException) -> BaseException:
    """The driver's own error below those of SQLAlchemy."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    adapted = type(error).__module__.startswith("sqlalchemy.dialects")
    return error.__cause__ if adapted and error.__cause__ is not None else error


def _sqlite_code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _state(error: Any) -> str:
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
