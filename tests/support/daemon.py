"""A real `crmd run` in a folder of its own: started, watched, signalled and killed by tests."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crmd.client.over_store import Client
from crmd.engine.admin.views import NewJob
from tests.support.embedded import servers_in
from tests.support.wait import wait_until_sync

PROJECT = Path(__file__).parents[2]
HANDLERS = "tests.support.daemon_jobs"
QUEUE = "work"
START_SECONDS = 15.0
"""Far above what a start takes, for a machine under load; tests of the time itself measure it."""
PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections, so that none takes ours meanwhile."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_NEVER_LOGGED = ("Traceback", "never retrieved", "was destroyed", "was never awaited", "ResourceWarning")


@dataclass(frozen=True)
class Effect:
    """One line that a test handler wrote."""

    event: str
    job: str
    attempt: int
    delivery: int
    pid: int
    at: float


@dataclass
class Said:
    """One message to systemd."""

    at: float
    lines: list[str]


class NotifyListener:
    """The other end of `$NOTIFY_SOCKET`: reads at once, as systemd does, and keeps what it read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[Said] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, name="notify", daemon=True)
        self._thread.start()

    def has(self, line: str, since: float = 0.0) -> float | None:
        """When a message with this line came, after `since` on the monotonic clock; None where none did."""
        return next((one.at for one in list(self.said) if line in one.lines and one.at >= since), None)

    def values(self, name: str, since: float = 0.0) -> list[str]:
        """All values of a variable, in order."""
        lines = [line for one in list(self.said) if one.at >= since for line in one.lines]
        return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]

    def times(self, line: str) -> list[float]:
        """When each message with this line came."""
        return [one.at for one in list(self.said) if line in one.lines]

    def close(self) -> None:
        """Ends the reading."""
        self._open = False
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while self._open:
            try:
                text = self._socket.recv(65536).decode()
            except TimeoutError:
                continue
            self.said.append(Said(time.monotonic(), text.split("\n")))


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


@dataclass
class Options:
    """How a daemon is to be started."""

    config: str = ""
    """Beside state folder, port and the queue of the test handlers."""
    queue: str = "concurrency = 20"
    """Keys of that queue."""
    daemon: str = ""
    """Keys of the table [daemon]."""
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    notify: bool = False
    watchdog_seconds: float | None = None
    expect_tracebacks: bool = False
    prefix: Sequence[str] = ()
    """A command that runs the daemon's in its own place, such as setpriv."""


class DaemonProcess:
    """One state folder, and the daemon that lives in it: one process after the other."""

    def __init__(self, folder: Path, options: Options, state: Path | None = None) -> None:
        self.folder = folder
        self.options = options
        self.state = state or folder / "state"
        self.config = folder / "config.toml"
        self.effects_file = folder / "effects"
        self.log_file = folder / "log"
        self.out_file = folder / "out"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.notify = NotifyListener(folder / "notify") if options.notify else None
        self.configure()

    # Life

    def configure(self, config: str | None = None, queue: str | None = None, daemon: str | None = None) -> None:
        """Writes the configuration, with what is given in place of what stood there."""
        options = self.options
        options.config = options.config if config is None else config
        options.queue = options.queue if queue is None else queue
        options.daemon = options.daemon if daemon is None else daemon
        self.config.touch(mode=0o600)
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nlog_format = "json"\n{options.daemon}\n'
            f"[http]\nport = {self.port}\n"
            f'[queues.{QUEUE}]\nhandlers = ["{HANDLERS}"]\n{options.queue}\n'
            f"{options.config}\n"
        )

    def launch(self) -> None:
        """Starts the process and returns at once."""
        command = [*self.options.prefix, sys.executable, "-m", "crmd", "run", "--config", str(self.config)]
        command += self.options.arguments
        with self.out_file.open("ab") as out, self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=self.folder, env=self._environ()
            )
        self.started_at = time.monotonic()

    def start(self) -> float:
        """Starts the process, waits until it is ready, and returns the seconds that it took."""
        self.launch()
        self.wait_ready()
        return time.monotonic() - self.started_at

    def wait_ready(self, timeout: float = START_SECONDS) -> None:
        """Waits for a 200 of /readyz."""

        def ready() -> bool:
            assert self.running, f"the daemon ended with {self.returncode}:\n{self.log()[-2000:]}"
            return self.get("/readyz").status == 200

        wait_until_sync(ready, timeout, f"the daemon of {self.folder} is ready")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the daemon alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        assert self.process
        self.process.wait(5)

    def wait_end(self, timeout: float = 30.0) -> int:
        """The exit code, once the process has ended."""
        assert self.process
        return self.process.wait(timeout)

    def refused(self) -> tuple[int, str]:
        """Starts the process, which has to end by itself; its exit code and the one line that it leaves."""
        self.launch()
        code = self.wait_end()
        lines = [line for line in self.log().splitlines() if not line.startswith("{")]
        assert len(lines) == 1, lines
        return code, lines[0]

    def stop(self, timeout: float = 30.0) -> float:
        """SIGTERM; returns the seconds until the end, which has to be a success."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.wait_end(timeout)
        assert code == 0, f"exit code {code}:\n{self.log()[-2000:]}"
        return time.monotonic() - began

    def close(self) -> None:
        """Ends what is left, and checks the log."""
        if self.process is not None and self.running:
            self.kill()
        if self.notify:
            self.notify.close()
        if not self.options.expect_tracebacks:
            text = self.log()
            found = [words for words in _NEVER_LOGGED if words in text]
            assert not found, f"the log has {found}:\n{text[-6000:]}"

    # What it shows

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code of the last process."""
        return self.process.returncode if self.process else None

    def log(self) -> str:
        """Standard error so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def log_records(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        lines = self.log().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, words: str) -> list[dict[str, Any]]:
        """The log lines whose message has these words."""
        return [record for record in self.log_records() if words in record["message"]]

    def out(self) -> str:
        """Standard output so far."""
        return self.out_file.read_text()

    def get(self, path: str, timeout: float = 5.0, headers: Mapping[str, str] | None = None) -> Answer:
        """One GET; status 0 where nothing answers."""
        began = time.monotonic()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read()
        except OSError as error:
            return Answer(0, str(error), time.monotonic() - began)
        return Answer(status, body.decode(), time.monotonic() - began)

    def effects(self, event: str | None = None) -> list[Effect]:
        """What the handlers wrote, in order."""
        if not self.effects_file.exists():
            return []
        lines = self.effects_file.read_text().split("\n")[:-1]
        return [one for one in (Effect(**json.loads(line)) for line in lines) if event in (None, one.event)]

    def count(self, event: str) -> Counter[str]:
        """How often each job did this."""
        return Counter(one.job for one in self.effects(event))

    def wait_effects(self, event: str, count: int, timeout: float = 10.0) -> list[Effect]:
        """The effects of this kind, once there are so many."""
        wait_until_sync(lambda: len(self.effects(event)) >= count, timeout, f"{count} times {event!r}")
        return self.effects(event)

    @property
    def store_pid(self) -> int:
        """The process id of the embedded store's server."""
        [pid] = servers_in(self.state)
        return pid

    @property
    def store_url(self) -> str:
        """The embedded store's address."""
        return f"unix://{self.state}/store.sock"

    @property
    def login(self) -> dict[str, str]:
        """The header that lets in."""
        password = (self.state / "password").read_text().strip()
        return {"Authorization": "Basic " + b64encode(f"admin:{password}".encode()).decode()}

    def client(self) -> Client:
        """A client of the embedded store, to be used as a context."""
        return Client(self.store_url)

    def add(self, count: int, job: str = "work", *, url: str | None = None, **payload: Any) -> list[str]:
        """Adds jobs to the queue of the test handlers; returns their keys."""
        with Client(url or self.store_url) as client:
            added = client.enqueue_many(QUEUE, [NewJob(job, dict(payload)) for _ in range(count)])
        return [one.key for one in added]

    def _environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        environ = {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": str(PROJECT),
            "EFFECTS_FILE": str(self.effects_file),
            **self.options.environ,
        }
        if self.notify:
            environ["NOTIFY_SOCKET"] = str(self.notify.path)
        if self.options.watchdog_seconds:
            environ["WATCHDOG_USEC"] = str(int(self.options.watchdog_seconds * 1e6))
        return environ


class Daemons:
    """Makes daemons, and ends them."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: a unix socket's path may have 107 bytes only.
        self._parent = Path(tempfile.mkdtemp(prefix="crmd-test-"))
        self._made: list[DaemonProcess] = []

    def make(self, *, state: Path | None = None, **options: Any) -> DaemonProcess:
        """A daemon that is not started."""
        folder = self._parent / str(len(self._made))
        folder.mkdir()
        made = DaemonProcess(folder, Options(**options), state)
        self._made.append(made)
        return made

    def start(self, **options: Any) -> DaemonProcess:
        """A daemon that is ready."""
        made = self.make(**options)
        made.start()
        return made

    def close(self) -> None:
        """Ends all, and their stores."""
        problems: list[str] = []
        for made in self._made:
            try:
                made.close()
            except AssertionError as error:
                problems.append(str(error))
        for pid in servers_in(self._parent):
            os.kill(pid, signal.SIGKILL)
        wait_until_sync(lambda: not servers_in(self._parent), 5.0, "the stores end")
        shutil.rmtree(self._parent, ignore_errors=True)
        assert not problems, "\n".join(problems)


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Makes real daemons, and ends them."""
    made = Daemons()
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def seconds_queued(pid: int) -> float:
    """How long a process's first thread has waited for a processor that others used."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # a kernel without these figures
        return 0.0


def cpu_share(pid: int, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> float:
    """The share of one processor that a process uses over the next seconds."""
    used, began = cpu_seconds(pid), time.monotonic()
    wait_until_sync(lambda: (meanwhile(), time.monotonic() - began >= seconds)[1], seconds + 5)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def peak_resident_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
