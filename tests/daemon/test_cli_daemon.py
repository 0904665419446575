"""Commands on a live daemon: outcomes, running jobs, jobs of unknown outcome."""

from __future__ import annotations

from crmd.errors import ExitCode
from tests.support.cli import Result, crmd
from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.wait import wait_until_sync


def command(daemon: DaemonProcess, *arguments: str) -> Result:
    """A command of the command line for this daemon."""
    return crmd("--config", str(daemon.config), *arguments)


def state(daemon: DaemonProcess, key: str) -> str:
    return str(command(daemon, "job", QUEUE, key, "--json").json["state"])


def test_the_outcome_decides_the_exit_code(daemons: Daemons) -> None:
    daemon = daemons.start(queue='attempts = 1\ntimeout = "300ms"')
    done = command(daemon, "enqueue", QUEUE, "work", "--key", "good", "--wait", "10s")
    assert (done.code, done.out, done.err) == (ExitCode.OK, "good\ncompleted\n", "")
    done = command(daemon, "enqueue", QUEUE, "work", "seconds:=5", "--key", "bad", "--wait", "10s")
    assert done.code == ExitCode.FAILED
    assert done.out.startswith("bad\nfailed: ")
    done = command(daemon, "enqueue", QUEUE, "work", "seconds:=5", "--wait", "10s", "--json")
    assert (done.code, done.json["state"]) == (ExitCode.FAILED, "failed")


def test_bulk_retry_leaves_jobs_of_unknown_outcome_alone(daemons: Daemons) -> None:
    daemon = daemons.start(queue='attempts = 1\ntimeout = "300ms"')
    for job in ("work", "effect"):
        command(daemon, "enqueue", QUEUE, job, "seconds:=5", "--key", job, "--wait", "10s")
    assert (state(daemon, "work"), state(daemon, "effect")) == ("failed", "unknown")
    done = command(daemon, "retry", QUEUE, "--state", "failed", "--yes")
    assert (done.code, done.out) == (ExitCode.OK, "1 job retried\n")
    assert state(daemon, "effect") == "unknown"
    refused = command(daemon, "retry", QUEUE, "--state", "unknown", "--yes")
    assert refused.code == ExitCode.USAGE
    assert "retry them by key" in refused.err
    assert state(daemon, "effect") == "unknown"
    done = command(daemon, "retry", QUEUE, "effect", "--json")
    assert done.code == ExitCode.OK
    wait_until_sync(lambda: daemon.count("effect")["effect"] == 2, what="the job asked for by name runs again")


def test_a_running_job_is_asked_to_stop(daemons: Daemons) -> None:
    daemon = daemons.start()
    command(daemon, "enqueue", QUEUE, "work", "seconds:=30", "--key", "long")
    wait_until_sync(lambda: state(daemon, "long") == "active", what="the job runs")
    done = command(daemon, "cancel", QUEUE, "long")
    assert (done.code, done.out) in {(0, "long: is asked to stop\n"), (0, "long: cancelled\n")}
    wait_until_sync(lambda: state(daemon, "long") == "cancelled", what="the job ends")


def test_the_daemon_is_listed(daemons: Daemons) -> None:
    daemon = daemons.start()
    (listed,) = wait_until_sync(lambda: command(daemon, "workers", "--json").json, what="the daemon is listed")
    assert (listed["pid"], listed["state"]) == (daemon.pid, "running")
    status = command(daemon, "status").out
    assert str(daemon.pid) in status
    assert "no daemon is alive" not in status
