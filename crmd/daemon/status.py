"""How the daemon is, in one line, for `systemctl status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crmd.errors import CrmdError

if TYPE_CHECKING:
    from crmd.daemon.build import Daemon


async def status_line(daemon: Daemon) -> str:
    """What the queues hold, or why the store is unavailable."""
    if not daemon.store.connected:
        return f"the store is unavailable: {daemon.store.trouble}"
    if daemon.store.refusal:
        return f"the store takes no writes: {daemon.store.refusal}"
    try:
        counts = (await daemon.pool.inspect()).values()
    except CrmdError as error:
        return f"the store is unavailable: {error}"
    paused = sum(one.paused for one in counts)
    text = f"{sum(one.active for one in counts)} active, {sum(one.waiting for one in counts)} waiting"
    if paused:
        text += f", {paused} queues paused"
    degraded = daemon.pool.degraded
    for reason in sorted(set(degraded.values())):
        names = [name for name, why in degraded.items() if why == reason]
        text += f"; {', '.join(names)}: {reason}"
    return text


def start_line(daemon: Daemon, refusal: str | None) -> tuple[str, str | None]:
    """What the start waits for, and what is wrong, if something is. `refusal` is what the store answered last."""
    store, embedded = daemon.store, daemon.embedded
    trouble = (embedded.last_error if embedded else None) or store.last_error or refusal
    waits = f"waiting for the store at {store.target.masked}"
    return (f"waiting for the store: {trouble}" if trouble else waits), trouble
