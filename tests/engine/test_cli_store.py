"""The commands that talk to the store, against a real one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from crmd.engine.settings import QueueSettings
from crmd.errors import ExitCode
from tests.support.cli import Cli, cli, store_cli
from tests.support.engine_harness import engine_harness

__all__ = ["cli", "store_cli"]


def keys_in(cli: Cli, state: str, queue: str = "notification") -> set[str]:
    return {job["key"] for job in cli("jobs", queue, "--state", state, "--limit", "10000", "--json").json["jobs"]}


def add(cli: Cli, *keys: str) -> None:
    for key in keys:
        assert cli("enqueue", "notification", "notify", f"message={key}", "--key", key).code == 0


def test_enqueue_prints_the_key(store_cli: Cli) -> None:
    done = store_cli("enqueue", "notification", "notify", "message=hello")
    assert (done.code, done.err) == (0, "")
    shown = store_cli("job", "notification", done.out.strip(), "--json").json
    assert (shown["state"], shown["payload"]) == ("waiting", {"message": "hello"})


def test_a_taken_key_keeps_its_job(store_cli: Cli) -> None:
    add(store_cli, "k")
    done = store_cli("enqueue", "notification", "notify", "message=other", "--key", "k", "--json")
    assert (done.code, done.json) == (0, {"key": "k", "created": False})
    assert "the key k is taken" in done.complaint
    assert store_cli("job", "notification", "k", "--json").json["payload"] == {"message": "k"}


def test_delay_and_promote(store_cli: Cli) -> None:
    store_cli("enqueue", "notification", "notify", "message=later", "--delay", "1h", "--key", "k")
    assert keys_in(store_cli, "delayed") == {"k"}
    assert store_cli("promote", "notification", "k").out == "k: promoted\n"
    assert keys_in(store_cli, "waiting") == {"k"}
    done = store_cli("promote", "notification", "k")
    assert (done.code, "is waiting" in done.complaint) == (ExitCode.FAILED, True)


def test_a_queue_whose_service_is_not_configured_says_so(store_cli: Cli) -> None:
    assert "its jobs wait: smtp.host is not set" in " ".join(store_cli("status").out.split())
    queues = store_cli("status", "--json").json["queues"]
    assert queues["email"]["held"] == "smtp.host is not set"
    assert queues["notification"]["held"] is None


def test_payload_from_standard_input(store_cli: Cli) -> None:
    done = store_cli("enqueue", "notification", "notify", "-d", "-", stdin='{"message": "piped"}')
    assert store_cli("job", "notification", done.out.strip(), "--json").json["payload"] == {"message": "piped"}


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("notification", "notify", "mesage=x"), 1, "payload of notify is invalid: message: Field required"),
        (("notifcation", "notify"), 1, "no queue is named 'notifcation'; did you mean notification?"),
        (("notification", "notify", "message=x", "--key", "ü"), 1, "is not a job key"),
        (("notification",), 2, "Missing argument 'JOB'"),
        (("notification", "notify", "message=x", "--delay", "5"), 2, '5 has no unit; write "5s"'),
        (("notification", "notify", "--delay", "5s", "--at", "2030-01-01T00:00:00Z"), 2, "exclude each other"),
        (("notification", "notify", "--from", "x", "--key", "k"), 2, "with --from, everything about a job"),
        (("notification", "notify", "--from", "/no/file"), 2, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_added(store_cli: Cli, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = store_cli("enqueue", *arguments)
    assert (done.code, done.out) == (code, "")
    assert complaint in done.complaint


def test_unknown_jobs_are_added_with_a_warning(store_cli: Cli) -> None:
    done = store_cli("enqueue", "notification", "notfy", "message=x")
    assert done.code == 0
    assert "did you mean notify?" in done.complaint


ESCAPES = "\x1b]0;owned\x07 \x9b2J \u202e"


def test_no_answer_or_error_moves_the_cursor(store_cli: Cli, store_url: str) -> None:
    job = {
        "function": f"mine{ESCAPES}",
        "kwargs": {"a": ESCAPES},
        "status": "failed",
        "error": ESCAPES,
        "result": ESCAPES,
    }
    key = f"k{ESCAPES}"
    with Redis.from_url(store_url) as client:
        client.set(f"saq:job:email:{key}", json.dumps(job))
        client.zadd("crmd:q:email:failed", {f"saq:job:email:{key}": 1_700_000_000_000})
    for arguments in (
        ("jobs", "email"),
        ("job", "email", key),
        ("job", "email", f"no{ESCAPES}"),
        ("jobs", f"email{ESCAPES}"),
        ("enqueue", "email", f"no{ESCAPES}", ESCAPES),
        ("enqueue", "email", "send_email", "-d", f"@{ESCAPES}"),
        ("pause", f"email{ESCAPES}"),
        (f"no{ESCAPES}",),
        ("jobs", f"--{ESCAPES}"),
        ("retry", "email", "--state", "failed"),
        ("retry", "email", key),
        ("clean", "email", key),
    ):
        for option in ((), ("--json",)):
            done = store_cli(*arguments, *option)
            assert not [c for c in done.out + done.err if not c.isprintable() and c != "\n"], (arguments, option)


def test_secrets_of_a_payload_are_masked(store_cli: Cli) -> None:
    secret = (
        '{"message": "see https://x/?access_token=hidden1", "password": "hidden2", "a": [{"api_key": "hidden3"}]}'
    )
    store_cli.config.write_text(store_cli.config.read_text() + '\n[queues.ai]\nhandlers = ["my.jobs"]\n')
    assert store_cli("enqueue", "ai", "mine", "-d", secret, "--key", "k").code == 0
    for arguments in (("jobs", "ai"), ("job", "ai", "k"), ("cancel", "ai", "--state", "waiting")):
        for option in ((), ("--json",)):
            done = store_cli(*arguments, *option)
            assert "hidden" not in done.out + done.err, (arguments, option)
    payload = store_cli("job", "ai", "k", "--json").json["payload"]
    assert payload == {"message": "see https://x/?access_token=***", "password": "***", "a": [{"api_key": "***"}]}


def test_what_could_not_be_read_is_listed(store_cli: Cli, store_url: str) -> None:
    assert "quarantined" in store_cli("jobs", "--help").out
    entry = {
        "at": 1_700_000_000,
        "id": "saq:job:email:k\x1b[2J",
        "reason": "is not JSON",
        "raw": '{"token": "hidden"',
    }
    with Redis.from_url(store_url) as client:
        client.rpush("crmd:q:email:quarantine", json.dumps(entry))
    shown = store_cli("jobs", "email", "--state", "quarantined")
    assert (shown.code, "is not JSON" in shown.out) == (0, True)
    assert "\x1b[2J" not in shown.out
    [listed] = store_cli("jobs", "email", "--state", "quarantined", "--json").json["entries"]
    assert (listed["id"], listed["at"][:4]) == (entry["id"], "2023")
    assert "hidden" not in shown.out + listed["raw"]


async def _announce(url: str) -> None:
    """What a live daemon that knows `greet` beside the shipped jobs says of itself."""
    async with engine_harness(url, QueueSettings("notification"), QueueSettings("email")) as r:
        r.handle("notification", "greet", lambda _: None)
        r.handle("notification", "notify", lambda _: None)
        await r.new_pool().tick.announce()


@pytest.mark.parametrize("way", ["argument", "file"])
def test_a_job_that_no_live_daemon_knows_is_refused(
    store_cli: Cli, store_url: str, tmp_path: Path, way: str
) -> None:
    asyncio.run(_announce(store_url))
    (tmp_path / "many.jsonl").write_text('{"job": "notfy", "payload": {}}\n')
    given = ["notfy", "message=x"] if way == "argument" else ["--from", f"{tmp_path}/many.jsonl"]
    done = store_cli("enqueue", "notification", *given)
    assert (done.code, done.out) == (ExitCode.FAILED, "")
    assert "queue notification has no job 'notfy'; did you mean notify?" in done.err
    assert keys_in(store_cli, "waiting") == set()


def test_a_job_that_a_live_daemon_knows_is_added_whatever_this_configuration_says(
    store_cli: Cli, store_url: str
) -> None:
    asyncio.run(_announce(store_url))
    assert store_cli("enqueue", "notification", "greet", "name=Ada").err == ""


def test_a_daemon_that_does_not_say_what_it_knows_refuses_nothing(store_cli: Cli, store_url: str) -> None:
    asyncio.run(_announce(store_url))
    with Redis.from_url(store_url) as client:
        assert client.delete(*client.scan_iter("crmd:daemon:*:jobs")) == 1  # as version 0.1.0
    done = store_cli("enqueue", "notification", "notfy", "message=x")
    assert (done.code, "warning" in done.complaint) == (0, True)


def test_jobs_of_own_handlers_are_added_without_one(store_cli: Cli) -> None:
    store_cli.config.write_text(store_cli.config.read_text() + '\n[queues.email]\nhandlers = ["my.jobs"]\n')
    assert store_cli("enqueue", "email", "mine", "a=1").err == ""


def test_a_wait_that_runs_out(store_cli: Cli) -> None:
    done = store_cli("enqueue", "notification", "notify", "message=x", "--key", "k", "--wait", "100ms", "--json")
    assert (done.code, done.json) == (ExitCode.WAIT_EXPIRED, {"key": "k", "created": True})
    assert "is not over" in done.complaint


def test_many_from_a_file(store_cli: Cli, tmp_path: Path) -> None:
    lines = [json.dumps({"message": f"m{number}"}) for number in range(2500)]
    lines[7] = json.dumps({"payload": {"message": "x"}, "key": "seven", "delay": "1h"})
    lines[8] = json.dumps({"payload": {"message": "x"}, "key": "seven"})
    (tmp_path / "many.jsonl").write_text("\n".join([*lines, "", ""]))
    done = store_cli("enqueue", "notification", "notify", "--from", f"{tmp_path}/many.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out == "2499 jobs added; 1 key was taken\n"
    counts = store_cli("status", "--json").json["queues"]["notification"]
    assert (counts["waiting"], counts["delayed"]) == (2498, 1)


def test_nothing_of_a_file_with_faults_is_added(store_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text('{"message": "x"}\n{"mesage": "x"}\nnonsense\n')
    done = store_cli("enqueue", "notification", "notify", "--from", f"{tmp_path}/many.jsonl")
    assert done.code == ExitCode.FAILED
    first, second, last = done.err.splitlines()
    assert "many.jsonl:2: payload of notify is invalid" in first
    assert "many.jsonl:3: is not JSON" in second
    assert "nothing was added" in last
    assert keys_in(store_cli, "waiting") == set()


def test_many_from_standard_input_stand_up_to_the_fault(store_cli: Cli) -> None:
    lines = '{"message": "x"}\n' * 1000 + "nonsense\n"
    done = store_cli("enqueue", "notification", "notify", "--from", "-", stdin=lines)
    assert done.code == ExitCode.USAGE
    assert done.err.splitlines()[0] == "crmd: stopped after adding 1000 jobs; they stand"
    assert "standard input:1001: is not JSON" in done.err
    assert len(keys_in(store_cli, "waiting")) == 1000


def test_cancel_retry_and_clean_by_key(store_cli: Cli) -> None:
    add(store_cli, "a", "b")
    done = store_cli("cancel", "notification", "a", "nobody")
    assert (done.code, done.out) == (ExitCode.FAILED, "a: cancelled\n")
    assert "'nobody'" in done.complaint
    assert keys_in(store_cli, "cancelled") == {"a"}
    (view,) = store_cli("retry", "notification", "a", "--json").json
    assert (view["key"], view["state"]) == ("a", "waiting")
    assert store_cli("clean", "notification", "a", "b").out == "a: deleted\nb: deleted\n"
    assert store_cli("job", "notification", "a").code == ExitCode.FAILED


def test_by_filter(store_cli: Cli) -> None:
    add(store_cli, "x1", "x2", "y1")
    done = store_cli("cancel", "notification", "--state", "waiting", "--search", "x", "--yes")
    assert (done.code, done.out) == (0, "2 jobs cancelled\n")
    assert keys_in(store_cli, "waiting") == {"y1"}
    done = store_cli("retry", "notification", "--state", "cancelled", "--yes", "--rate", "1000/s", "--json")
    assert done.json == {"done": 2, "skipped": 0}
    assert store_cli("clean", "notification", "--state", "waiting", "-y").out == "3 jobs deleted\n"
    assert store_cli("clean", "notification", "--state", "waiting", "-y").out == "no job matches\n"


def test_by_filter_asks_and_shows_samples(store_cli: Cli) -> None:
    add(store_cli, "a", "b")
    done = store_cli("cancel", "notification", "--state", "waiting")
    assert done.code == ExitCode.USAGE
    assert "2 waiting jobs of notification:" in done.err
    assert '  a  notify  {"message": "a"}' in done.err
    assert "add --yes" in done.err
    assert keys_in(store_cli, "waiting") == {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("retry", "notification"), "name jobs by their keys, or say --state"),
        (("retry", "notification", "--state", "waiting"), "waiting jobs cannot be retried by filter"),
        (("clean", "notification", "--state", "active"), "active jobs cannot be deleted by filter"),
        (("cancel", "notification", "k", "--state", "waiting"), "give either keys, or --state"),
    ],
)
def test_wrong_selections(store_cli: Cli, arguments: tuple[str, ...], complaint: str) -> None:
    done = store_cli(*arguments)
    assert done.code == ExitCode.USAGE
    assert complaint in done.complaint


def test_pause_limit_and_resume(store_cli: Cli) -> None:
    assert store_cli("pause", "email", "message", "--reason", "new keys", "--for", "1h").code == 0
    assert store_cli("limit", "message", "5/s", "--for", "1h").out == "message: limited to 5/s\n"
    queues = store_cli("status", "--json").json["queues"]
    assert queues["email"]["paused"] is True
    assert queues["email"]["pause"]["reason"] == "new keys"
    assert queues["message"]["limit"]["rate"] == "5/s"
    shown = store_cli("status").out
    assert "new keys, resumes in 59m" in shown
    assert (
        store_cli("limit", "message", "default", "--json").json["queues"]["message"]["limit"]["rate"] == "20/min"
    )
    resumed = store_cli("resume", "--all", "--json").json["queues"]
    assert len(resumed) == 10
    assert not any(queue["paused"] for queue in resumed.values())


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("pause",), 2, "name queues, or all of them with --all"),
        (("pause", "email", "--all"), 2, "name queues, or all of them with --all"),
        (("pause", "email", "emial"), 1, "no queue is named 'emial'; did you mean email?"),
        (("limit", "email", "fast"), 2, 'or "default" for the configured limit'),
        (("run", "--queues", "email,emial"), 2, "no queue is named emial"),
    ],
)
def test_wrong_queues(store_cli: Cli, arguments: tuple[str, ...], code: int, complaint: str) -> None:
    done = store_cli(*arguments)
    assert done.code == code
    assert complaint in done.complaint
    assert not store_cli("status", "--json").json["queues"]["email"]["paused"]


def test_lists_say_that_there_is_more(store_cli: Cli) -> None:
    add(store_cli, "a", "b", "c")
    done = store_cli("jobs", "notification", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "there are more than these 2" in done.complaint
    assert store_cli("jobs", "notification", "--limit", "3").err == ""


def test_a_job_in_full(store_cli: Cli) -> None:
    add(store_cli, "k")
    store_cli("cancel", "notification", "k")
    shown = store_cli("job", "notification", "k").out
    assert "state     cancelled\n" in shown
    assert 'payload   {"message": "k"}\n' in shown
    assert "cancelled by " in shown


def test_without_a_daemon(store_cli: Cli) -> None:
    assert store_cli("workers", "--json").json == []
    assert "no daemon is alive" in store_cli("workers").complaint
    assert "no daemon is alive" in store_cli("status").out


def test_without_a_store_it_says_where_it_looked(cli: Cli) -> None:
    done = cli("status")
    assert (done.code, done.out) == (ExitCode.UNAVAILABLE, "")
    assert f"there is no {cli.state_dir}/store.sock" in done.complaint
    assert f"redis.url is not set in {cli.config}" in done.complaint


def test_an_external_store_that_is_away_is_named_without_its_password(cli: Cli) -> None:
    cli.configure('[redis]\nurl = "redis://:geheim@127.0.0.1:1/0"')
    done = cli("status")
    assert done.code == ExitCode.UNAVAILABLE
    assert "127.0.0.1:1" in done.complaint
    assert "geheim" not in done.err


def test_a_call_that_is_repeated_adds_nothing(store_cli: Cli) -> None:
    def call(text: str = "x") -> Any:
        return store_cli("enqueue", "notification", "notify", f"message={text}", "--idempotency-key", "n:1")

    first, again = call(), call()
    assert (first.code, first.err, again.code, again.out) == (0, "", 0, first.out)
    assert "this call was made before; its job is waiting" in again.complaint
    other = call("y")
    assert (other.code, "stands for another request" in other.complaint) == (ExitCode.FAILED, True)
    bad = store_cli("enqueue", "notification", "notify", "message=x", "--idempotency-key", "a b")
    assert (bad.code, "visible ASCII" in bad.complaint) == (ExitCode.USAGE, True)
    assert len(keys_in(store_cli, "waiting")) == 1


def test_a_file_that_is_added_again_under_its_idempotency_key(store_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text("".join(f'{{"message": "m{n}"}}\n' for n in range(1_500)))
    outs = [
        store_cli("enqueue", "notification", "notify", "--from", f"{tmp_path}/many.jsonl", "--json", *once)
        for once in (["--idempotency-key", "file-1"], ["--idempotency-key", "file-1"])
    ]
    assert [done.json for done in outs] == [
        {"created": 1_500, "existing": 0, "repeated": 0},
        {"created": 0, "existing": 0, "repeated": 1_500},
    ]
    assert len(keys_in(store_cli, "waiting")) == 1_500
