"""The command line on a terminal: questions, colours, Ctrl-C, live views."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli, cli, store_cli
from tests.support.wait import wait_until_sync

__all__ = ["cli", "store_cli"]

CTRL_C = b"\x03"


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self._leader, follower = pty.openpty()
        command = [sys.executable, "-m", "crmd", "--config", str(config), *arguments]
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
        # setsid -c makes the terminal the controlling one, so that Ctrl-C is a signal
        self.process = subprocess.Popen(
            ["setsid", "-c", "-w", *command], stdin=follower, stdout=follower, stderr=follower, env=environ
        )
        os.close(follower)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, words: str) -> None:
        """Waits until the terminal shows this."""
        wait_until_sync(lambda: words in self.text, 10, f"{words!r} on the terminal")

    def type(self, keys: bytes) -> None:
        """Types."""
        os.write(self._leader, keys)

    def end(self) -> int:
        """The exit code, with all output read."""
        code = self.process.wait(10)
        self._reader.join(10)
        return code

    def close(self) -> None:
        """Ends what is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        self._reader.join(10)
        os.close(self._leader)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the command has ended
            while data := os.read(self._leader, 65536):
                self.text += data.decode(errors="replace")


@contextlib.contextmanager
def terminal(cli: Cli, *arguments: str) -> Iterator[Terminal]:
    made = Terminal(cli.config, *arguments)
    try:
        yield made
        assert "Traceback" not in made.text
    finally:
        made.close()


def waiting(cli: Cli) -> int:
    return int(cli("status", "--json").json["queues"]["notification"]["waiting"])


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 2), (CTRL_C, 130, 2)])
def test_bulk_actions_ask(store_cli: Cli, answer: bytes, code: int, left: int) -> None:
    for text in ("one", "two"):
        store_cli("enqueue", "notification", "notify", f"message={text}")
    with terminal(store_cli, "cancel", "notification", "--state", "waiting") as shown:
        shown.wait_for("Cancel all of them? [y/N]")
        assert '{"message": "one"}' in shown.text
        shown.type(answer)
        assert shown.end() == code
    assert waiting(store_cli) == left


def test_ctrl_c_ends_a_wait_quietly(store_cli: Cli) -> None:
    with terminal(
        store_cli, "enqueue", "notification", "notify", "message=x", "--key", "k", "--wait", "none"
    ) as shown:
        shown.wait_for("k\r\n")
        shown.type(CTRL_C)
        assert shown.end() == 130
    assert waiting(store_cli) == 1


def test_ctrl_c_while_typing_lines_says_what_was_added(store_cli: Cli) -> None:
    with terminal(store_cli, "enqueue", "notification", "notify", "--from", "-") as shown:
        for _ in range(1000):
            shown.type(b'{"message": "x"}\n')
        wait_until_sync(lambda: waiting(store_cli) == 1000, 10, "a batch is added")
        shown.type(CTRL_C)
        assert shown.end() == 130
        assert "stopped after adding 1000 jobs; they stand" in shown.text


def test_status_is_watched_until_ctrl_c(store_cli: Cli) -> None:
    with terminal(store_cli, "status", "--watch") as shown:
        shown.wait_for("notification")
        store_cli("pause", "notification", "--reason", "look here")
        shown.wait_for("look here")
        shown.type(CTRL_C)
        assert shown.end() == 130


def test_a_password_is_asked_for_twice_and_not_shown(cli: Cli) -> None:
    with terminal(cli, "password", "set") as shown:
        shown.wait_for("New password: ")
        shown.type(b"correct horse\n")
        shown.wait_for("Repeat for confirmation: ")
        shown.type(b"correct horse\n")
        assert shown.end() == 0
        assert "correct horse" not in shown.text
    assert cli("password", "show").out == "correct horse\n"


def test_progress_of_a_file_is_shown(store_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text('{"message": "x"}\n' * 1500)
    with terminal(store_cli, "enqueue", "notification", "notify", "--from", str(tmp_path / "many.jsonl")) as shown:
        assert shown.end() == 0
        assert "1500/1500" in shown.text
        assert "1500 jobs added" in shown.text
