"""Writes the scripts as the store gets them into the folder that the command line names, for luacheck."""

from __future__ import annotations

import sys
from pathlib import Path

from crmd.engine.store.library import load_scripts


def main(folder: str) -> None:
    """One file a script; lines keep their numbers only up to the first include."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, script in load_scripts().items():
        (Path(folder) / f"{name}.lua").write_text(script.text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
