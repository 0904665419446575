"""Becomes the program it is given, and asks the kernel to end it with its parent (Linux).

Run as a script by its path, in a bare interpreter: it imports nothing of crmd. This is done here, in a process of
one thread, because code between fork and exec of a program with threads can deadlock.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent_pid: int, command: list[str]) -> None:
    """Replaces this process by `command`, unless the parent is gone already."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    except (ImportError, OSError, MemoryError, AttributeError) as error:
        # The program works without: what outlives its parent is then ended by the next start.
        sys.stderr.write(f"not tied to the life of process {parent_pid}: {error}\n")
    # A parent that died before the call above sends no signal any more.
    if os.getppid() == parent_pid:
        os.execv(command[0], command)  # noqa: S606 - there is no shell, on purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
