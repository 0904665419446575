"""Does one task with one peer, in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import uvloop

from bench.trials.crmd_peer import CrmdPeer
from bench.trials.peer import Options, Peer
from bench.trials.saq_peer import SaqPeer
from bench.trials.tasks import TASKS

PEERS: dict[str, Callable[[str, Options], Peer]] = {"crmd": CrmdPeer, "saq": SaqPeer}


async def trial(peer: Peer, task: str, options: Options) -> None:
    """Connects, does the task, and prints its result."""
    await peer.open()
    result = await TASKS[task](peer, options)
    print(json.dumps(result or {}), flush=True)
    await peer.close()


def main() -> None:
    """Does what the command line names."""
    peer, task, url, text = sys.argv[1:]
    options = Options(**json.loads(text))
    uvloop.run(trial(PEERS[peer](url, options), task, options))


if __name__ == "__main__":
    main()
