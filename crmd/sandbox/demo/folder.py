"""The demo's folder: configuration, state, log, and results. Each demo starts with an empty one."""

from __future__ import annotations

import shutil
import socket
from importlib import resources
from pathlib import Path

from crmd.errors import CrmdError
from crmd.sandbox.settings import Addresses, SandboxSettings, Tables, toml_lines

MARK = ".crmd-demo"
"""Only a folder with this file in it is emptied."""
_SHIPPED = ("contacts.csv", "campaign.json", "flow.json")


class DemoFolder:
    """The paths in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.state = path / "state"
        self.log = path / "daemon.log"

    def prepare(self) -> None:
        """Empties it, and puts in the shipped files. Raises CrmdError for a folder that is not of a demo."""
        try:
            if self.path.exists() and any(self.path.iterdir()):
                self._empty()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / MARK).touch()
            for name in _SHIPPED:
                (self.path / name).write_bytes(shipped(name))
        except OSError as error:
            raise CrmdError(
                f"the demo's folder {self.path} cannot be used: {error.strerror}; choose another by --folder"
            ) from None

    def write_config(self, port: int, addresses: Addresses, settings: SandboxSettings) -> None:
        """Writes the daemon's configuration, for its owner only as a real one would hold secrets."""
        tables: Tables = {
            "daemon": {"state_dir": str(self.state.absolute()), "log_format": "text"},
            "http": {"port": port},
            **addresses.configuration(settings),
            "webhook.endpoints.shop": {"url": f"{addresses.hooks_url}/shop"},
        }
        self.config.touch(mode=0o600)
        self.config.write_text("\n".join(toml_lines(tables)) + "\n")

    def read(self, name: str) -> bytes:
        """A file in it."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """A file that came out."""
        (self.path / name).write_bytes(content)

    def _empty(self) -> None:
        if not (self.path / MARK).is_file():
            raise CrmdError(f"{self.path} is not empty and not of a demo; choose another folder by --folder")
        if _answers(self.state / "store.sock"):
            raise CrmdError(f"another demo runs in {self.path}; end it, or choose another folder by --folder")
        for inside in self.path.iterdir():
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside)
            else:
                inside.unlink()


def _answers(path: Path) -> bool:
    """Whether a server listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as attempt:
        try:
            attempt.connect(str(path))
        except OSError:
            return False
    return True


def shipped(name: str) -> bytes:
    """A file that ships with the demo."""
    return resources.files("crmd.sandbox.demo").joinpath(name).read_bytes()
