"""Bull and bullmq for Node, installed into the user's cache folder and never into the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES: Mapping[str, str] = {"bull": "4.16.5", "bullmq": "6.7.0"}
INSTALL_TIMEOUT_S = 300.0


class NoNode(Exception):
    """Node or its packages are not here; says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node that can load the packages."""

    program: str
    modules: Path


def prepare() -> Node:
    """Finds Node, and installs the packages where they are not yet. Raises NoNode."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise NoNode(f"{'npm' if node else 'node'} is not in PATH")
    folder = _cache() / "crmd-bench"
    modules = folder / "node_modules"
    if any(installed(modules, name) != version for name, version in PACKAGES.items()):
        _install(npm, folder)
    return Node(node, modules)


def installed(modules: Path, name: str) -> str | None:
    """The version of a package in the folder, if it is there."""
    try:
        version: str = json.loads((modules / name / "package.json").read_text(encoding="utf-8"))["version"]
    except OSError:
        return None
    return version


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _install(npm: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *wanted]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise NoNode(f"npm could not install {' and '.join(wanted)}: {last}") from None
    except subprocess.TimeoutExpired:
        raise NoNode(f"npm took longer than {INSTALL_TIMEOUT_S:g} s to install {' and '.join(wanted)}") from None
