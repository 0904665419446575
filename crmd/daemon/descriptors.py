"""How many files and sockets the process may open."""

from __future__ import annotations

import resource

WANTED_FILES = 4096
"""A thousand HTTP connections, and what handlers open. The usual soft limit of 1,024 is there for select()."""


def raise_file_limit() -> None:
    """Raises the soft limit to WANTED_FILES, or as far as the hard limit allows; never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
