"""`crmd demo` as a person starts it: all of it, and its end by Ctrl-C."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import python_calamine

from tests.support.daemon import PROJECT
from tests.support.embedded import servers_in
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

FIRST_20_SECONDS = 120.0
"""What the demo promises, on a fresh machine."""


class Demo:
    """One demo, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "demo"
        self._out = folder / "out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "PYTHONPATH": str(PROJECT)}
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "crmd", "demo", "--folder", str(self.folder), *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder.parent,
                env=environ,
            )
        return self.process

    def said(self, words: str, timeout: float) -> str:
        """All that it said, once the words are among it."""
        assert self.process

        def found() -> bool:
            assert self.process
            assert words in self.text or self.process.poll() is None, self.text
            return words in self.text

        wait_until_sync(found, timeout, f"the demo says {words!r}")
        return self.text

    @property
    def text(self) -> str:
        return self._out.read_text()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture
def demo() -> Iterator[Demo]:
    # Not pytest's tmp_path: the store's socket is below it, and its path may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="crmd-demo-"))
    made = Demo(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_whole_demo(demo: Demo) -> None:
    began, began_hour = time.monotonic(), time.localtime().tm_hour
    process = demo.start("--end")
    demo.said("20 are accepted; 10 wait", FIRST_20_SECONDS)
    assert time.monotonic() - began < FIRST_20_SECONDS
    text = demo.said("all 30 are accepted", 180)
    assert process.wait(60) == 0, demo.text
    assert "30 contacts are new, 2 rows rejected" in text
    assert "32,Mobile,123," in text
    book = python_calamine.CalamineWorkbook.from_path(demo.folder / "contacts.xlsx")
    header, *rows = book.get_sheet_by_index(0).to_python()
    assert len(rows) == 30
    tags = {str(row[header.index("phone")]): str(row[header.index("tags")]) for row in rows}
    assert [phone for phone, text in tags.items() if "happy" in text], "the flow went on after the reply"
    log = (demo.folder / "daemon.log").read_text()
    assert "Traceback" not in log
    assert "131056" not in log
    assert servers_in(demo.folder) == []
    if time.localtime().tm_hour != began_hour:
        return  # the last report is that of another hour than what it counts
    reports = re.findall(r"^\S+ \d\d:00.*?(\d+) +\d+ +(\d+) +(\d+) +(\d+) +(\d+) ", demo.text, re.MULTILINE)
    sent, *rest = [int(number) for number in reports[-1]]
    assert sent == 32, "30 of the campaign, the model's answer and the flow's own"
    delivered, read, failed, inbound = rest
    assert delivered + read + failed == 32, demo.text
    assert inbound == 2


def test_the_commands_that_it_prints_do_what_it_did(demo: Demo) -> None:
    demo.start()
    text = demo.said("20 are accepted", FIRST_20_SECONDS)
    curls = re.findall(r"^\s*\$ (curl .*)$", text, re.MULTILINE)
    assert len(curls) >= 2
    for line in curls:
        done = subprocess.run(
            [*shlex.split(line), "--silent", "--fail"],
            cwd=demo.folder,
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert done.returncode == 0, line


def test_ctrl_c_ends_the_daemon_the_store_and_the_sandbox(demo: Demo) -> None:
    process = demo.start()
    text = demo.said("20 are accepted", FIRST_20_SECONDS)
    urls = re.findall(r"http://127\.0\.0\.1:\d+", text)
    for url in set(urls):
        with urllib.request.urlopen(f"{url}/readyz" if f"{url}/admin" in text else url, timeout=5) as response:
            assert response.status == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "stopped" in (demo.folder / "daemon.log").read_text()
    assert servers_in(demo.folder) == []
    for url in set(urls):
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=2)


def test_a_daemon_that_dies_is_told(demo: Demo) -> None:
    process = demo.start()
    demo.said("20 are accepted", FIRST_20_SECONDS)
    [store] = servers_in(demo.folder)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    assert process.wait(30) == 1
    assert "the daemon ended with exit code -9" in demo.text
    os.kill(store, signal.SIGKILL)
