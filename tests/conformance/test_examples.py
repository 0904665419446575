"""The examples run as they are, against a real daemon that has their configuration."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from crmd.config.load import load
from crmd.engine.store.keys import QueueKeys
from tests.support.cli import Result, crmd
from tests.support.daemon import free_port
from tests.support.wait import wait_until_sync

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "crmd_a-token-for-this-test"
SECRET = "whsec_ZXhhbXBsZSBvbmx5IC0gY2hhbmdlIGl0"
START_SECONDS = 15.0
KEYS_PAGE = EXAMPLES.parent / "docs" / "reference" / "keys.md"

pytestmark = pytest.mark.xdist_group("examples")


class Running:
    """The daemon of the examples."""

    def __init__(self, state: Path) -> None:
        self.store_url = f"unix://{state}/store.sock"
        self.port = free_port()
        self.environ = {
            "CRMD_DAEMON__STATE_DIR": str(state),
            "CRMD_HTTP__PORT": str(self.port),
            "CRMD_WEBHOOK__SECRET": SECRET,
            "CRMD_AUTH__TOKENS__TEST__SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "CRMD_AUTH__TOKENS__TEST__SCOPES": "enqueue,read,operate",
        }

    @property
    def http_url(self) -> str:
        """Where its HTTP side is."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.http_url}/readyz", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def crmd(self, *arguments: str) -> Result:
        """A command, typed in the folder of the examples."""
        return crmd("--config", "config.toml", *arguments, environ=self.environ, cwd=EXAMPLES)

    def script(self, name: str, *arguments: str) -> str:
        """What a script of the examples prints."""
        done = subprocess.run(
            [sys.executable, "-W", "error", name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=EXAMPLES,
            env={**os.environ, **self.environ},
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def process(running: Running, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in the folder of the examples, ended by SIGINT as Ctrl-C does."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=EXAMPLES,
            env={**os.environ, **running.environ},
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        assert started.wait(10) == 0, log.read_text()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Running]:
    """The daemon, ready."""
    # Not pytest's tmp_path: a unix socket's path may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="crmd-test-"))
    made = Running(folder / "state")
    try:
        log = folder / "log"
        with process(made, log, "-m", "crmd", "run", "--config", "config.toml") as started:
            wait_until_sync(
                lambda: started.poll() is not None or made.ready(), START_SECONDS, "the daemon is ready"
            )
            assert started.poll() is None, log.read_text()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_configuration_is_valid() -> None:
    loaded = load(path=EXAMPLES / "config.toml", environ={}, cwd=EXAMPLES)
    assert loaded.warnings == []
    assert loaded.settings.daemon.state_dir == EXAMPLES.parent / ".state"


def test_an_async_handler(daemon: Running) -> None:
    done = daemon.crmd("enqueue", "notification", "greet", "name=Ada", "--wait", "10s")
    assert done.out.splitlines()[1:] == ['completed "hello Ada"']


def test_a_sync_handler(daemon: Running) -> None:
    done = daemon.crmd(
        *("enqueue", "export", "monthly_report", "month=2026-01", "numbers:=[1, 2, 3]", "--wait", "10s"), "--json"
    )
    assert done.json["result"] == {"total": 6, "told": "report-2026-01"}
    assert daemon.crmd("job", "notification", "report-2026-01").code == 0


def test_a_plain_saq_function(daemon: Running) -> None:
    done = daemon.crmd("enqueue", "flow", "ping", "host=example.com", "--key", "ping-1", "--wait", "10s")
    assert done.out.splitlines() == ["ping-1", 'completed "example.com pinged by ping-1"']


@pytest.mark.parametrize("way", ["store", "http"])
def test_the_client(daemon: Running, way: str) -> None:
    arguments = [daemon.store_url] if way == "store" else [daemon.http_url, TOKEN]
    lines = daemon.script("client.py", *arguments).splitlines()
    assert lines == [
        "completed {'channel': 'log', 'level': 'info', 'outcome': 'sent'}",
        "3 jobs added",
        "added: True added again: False",
        "cancelled",
    ]


def test_the_saq_producer(daemon: Running) -> None:
    done, taken_back = daemon.script("saq_producer.py", daemon.store_url).splitlines()
    assert done == "Status.COMPLETE {'channel': 'log', 'level': 'info', 'outcome': 'sent'}"
    key = taken_back.split()[0]

    def is_cancelled() -> bool:
        shown = daemon.crmd("job", "notification", key, "--json")
        return bool(shown.json["state"] == "cancelled" and shown.json["finished_at"])

    wait_until_sync(is_cancelled, 10.0)


def test_the_receiver(daemon: Running, tmp_path: Path) -> None:
    log = tmp_path / "receiver"
    with process(daemon, log, "receiver.py", "0"):
        wait_until_sync(lambda: log.exists() and "\n" in log.read_text(), 10.0, "the receiver listens")
        [url] = re.findall(r"http://\S+", log.read_text())
        done = daemon.crmd(
            *("enqueue", "webhook", "deliver_webhook", f"url={url}hooks", "event=contact.created"),
            *('data:={"id": 7}', "--wait", "10s", "--json"),
        )
        assert done.json["result"]["status"] == 204, done
    line = next(line for line in log.read_text().splitlines() if line.startswith("msg_"))
    assert json.loads(line.partition(" ")[2])["data"] == {"id": 7}


def test_the_store_holds_only_keys_of_the_reference_page(daemon: Running) -> None:
    assert daemon.crmd("enqueue", "notification", "greet", "name=Ada", "--wait", "10s").code == 0
    rows = re.findall(r"^\| `([^`]+)` \| (\w+)", KEYS_PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    documented = [(_pattern(name), kind) for name, kind in rows]
    with Redis.from_url(daemon.store_url, decode_responses=True) as client:
        found = {name: str(client.type(name)) for name in client.scan_iter(count=1000)}
    assert QueueKeys("notification").completed in found
    for name, kind in found.items():
        # A key with a TTL may have gone since it was listed.
        kinds = {one for pattern, one in documented if pattern.fullmatch(name)}
        assert kinds >= {kind} - {"none"}, f"{name} is a {kind}"


def _pattern(name: str) -> re.Pattern[str]:
    """A key of the page as a pattern: words in capitals stand for names."""
    parts = re.split(r"([A-Z]{2,})", name)
    return re.compile("".join(".+" if part.isupper() else re.escape(part) for part in parts), re.DOTALL)
