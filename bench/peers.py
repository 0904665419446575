"""Who is measured: crmd, stock SAQ, and where Node is present bull and bullmq."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import nodejs

NODE_PEERS = ("bull", "bullmq")


@dataclass(frozen=True, slots=True)
class Peer:
    """How to start a trial of one job system."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peers:
    """Those that are here, and why the others are not."""

    found: dict[str, Peer]
    skipped: dict[str, str]


def find_peers() -> Peers:
    """All peers of this machine; installs those of Node into the user's cache folder."""
    python = (sys.executable, "-m", "bench.trials")
    peers = Peers({name: Peer(name, python) for name in ("crmd", "saq")}, {})
    try:
        node = nodejs.prepare()
    except nodejs.NoNode as reason:
        peers.skipped.update(dict.fromkeys(NODE_PEERS, str(reason)))
        return peers
    script = str(Path(__file__).parent / "node" / "main.cjs")
    for name in NODE_PEERS:
        peers.found[name] = Peer(name, (node.program, script), {"NODE_PATH": str(node.modules)})
    return peers
