"""Translates redis-py's errors into our own: they do not leave `crmd.engine`."""

from __future__ import annotations

from redis import exceptions as redis_errors

from crmd.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable

_REFUSED = (
    redis_errors.AuthenticationError,
    redis_errors.AuthorizationError,
    redis_errors.AuthenticationWrongNumberOfArgsError,
)
_UNAVAILABLE = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.ClusterDownError,
    OSError,  # a plain TimeoutError is one
)
_GIVE_UP = (redis_errors.ReadOnlyError, redis_errors.ClusterDownError, redis_errors.BusyLoadingError)
_REFUSED_WRITES = ("NOREPLICAS ", "MISCONF ")
# From within a script: Redis 7.0, then all newer servers.
_DENIED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")


def store_error(error: Exception, what: str) -> StoreError:
    """The error of ours for one of redis-py, a timeout or an OSError; `what` was being done.

    The store's own words are left out where a pipeline puts the command with its values into them.
    """
    text = str(error) or type(error).__name__
    # On unix sockets redis-py wraps a refusal into a plain ConnectionError.
    causes = (error, error.__cause__)
    if any(isinstance(cause, _REFUSED) for cause in causes):
        return StoreUnusable(f"{what}: the store refuses the user or password; check the store's URL")
    denied = any(isinstance(cause, redis_errors.NoPermissionError) for cause in causes)
    if denied or text.startswith(_DENIED_IN_SCRIPT):
        return StoreUnusable(f"{what}: the store's user may not do all that is needed: {_in_short(text)}")
    if text.endswith("DB index is out of range"):
        return StoreUnusable(f"{what}: the store has no database of that number; correct it in the store's URL")
    if isinstance(error, redis_errors.OutOfMemoryError) or "OOM command not allowed" in text:
        return StoreFull(f"{what}: the store is at its memory limit; raise maxmemory or delete what is not needed")
    if "MISCONF " in text:
        return StoreFull(f"{what}: the store cannot write to its disk; free some space there and see its log")
    if refuses_writes(error):
        return StoreUnavailable(f"{what}: the store takes no writes now ({_in_short(text)}); try again later")
    if isinstance(error, _UNAVAILABLE) or text.startswith("BUSY "):
        return StoreUnavailable(f"{what}: the store is unavailable ({_in_short(text)}); try again when it is back")
    return StoreError(f"{what}: the store answers: {_in_short(text)}")


def gives_up(error: Exception) -> bool:
    """Whether a reply says that the store, though connected, will serve nothing for a while."""
    return isinstance(error, _GIVE_UP) or str(error).startswith("BUSY ")


def refuses_writes(error: Exception) -> bool:
    """Whether a reply says that the store takes no writes for now, whatever they are."""
    return isinstance(error, redis_errors.TryAgainError) or str(error).startswith(_REFUSED_WRITES)


def _in_short(text: str) -> str:
    marker = "of pipeline caused error: "
    return text.partition(marker)[2] or text
