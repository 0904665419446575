"""What a process and the store have used so far, and what they used between two moments."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis import Redis

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Phase:
    """What one stretch of time cost."""

    seconds: float
    cpu_s: float
    """Processor time of the measured process, its threads included."""
    store_cpu_s: float
    """Processor time of the store's main thread, the one that limits it."""
    commands: int
    """Commands that the store ran, inside of scripts too."""
    trips: int
    """Reads from its connections: commands that come together count once."""
    traffic: int
    """Bytes both ways."""
    memory: int
    """Bytes by which the store's data grew."""
    busy_s: float
    """Processor time of the whole machine, of all its processors together."""

    @property
    def others(self) -> float:
        """Processors that neither the measured process nor the store's main thread used: who disturbed."""
        return max(0.0, self.busy_s - self.cpu_s - self.store_cpu_s) / self.seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """All that counts up, at one moment."""

    at: float
    cpu_s: float
    store_cpu_s: float
    commands: int
    trips: int
    traffic: int
    memory: int
    busy_s: float

    def until(self, end: Reading) -> Phase:
        """What lies between this moment and a later one."""
        return Phase(
            seconds=end.at - self.at,
            cpu_s=end.cpu_s - self.cpu_s,
            store_cpu_s=end.store_cpu_s - self.store_cpu_s,
            commands=end.commands - self.commands,
            trips=end.trips - self.trips,
            traffic=end.traffic - self.traffic,
            memory=end.memory - self.memory,
            busy_s=end.busy_s - self.busy_s,
        )


def read(store: Redis, pid: int) -> Reading:
    """The present state of a process and of the store."""
    at = time.monotonic()
    info = store_info(store, "cpu", "stats", "memory")
    thread = "_main_thread" if "used_cpu_user_main_thread" in info else ""
    return Reading(
        at=at,
        cpu_s=cpu_seconds(pid),
        store_cpu_s=info[f"used_cpu_user{thread}"] + info[f"used_cpu_sys{thread}"],
        commands=info["total_commands_processed"],
        trips=info["total_reads_processed"],
        traffic=info["total_net_input_bytes"] + info["total_net_output_bytes"],
        memory=info["used_memory"],
        busy_s=_machine_busy_seconds(),
    )


def store_info(store: Redis, *sections: str) -> dict[str, Any]:
    """Sections of what the store says of itself."""
    return cast(dict[str, Any], store.info(*sections))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and system mode, its ended threads included."""
    # As clock_getcpuclockid(3) makes it; /proc/PID/stat counts in steps of 10 ms, 3 % of some runs.
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * _PAGE


def _machine_busy_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS
