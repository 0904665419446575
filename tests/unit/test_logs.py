"""What log lines look like, where they go, and what does not get into them: secrets above all."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saq.job import Job

from crmd.telemetry import logs
from crmd.telemetry import redact as redact_module
from crmd.telemetry.redact import redact, redact_fields, redact_repr, redact_start


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Puts the root logger and the tamed ones back."""
    root = logging.getLogger()
    handlers, levels = list(root.handlers), {name: logging.getLogger(name).level for name in ("", *logs.QUIET)}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_the_fields() -> None:
    stream = io.StringIO()
    logs.setup("info", "auto", stream=stream, environ={})
    logging.getLogger("crmd.x").info("job.%s", "failed", extra={"fields": {"queue": "email", "level": "odd"}})
    (line,) = lines_of(stream)
    assert line["message"] == "job.failed"
    assert line["queue"] == "email"
    assert line["level"] == "info"
    assert line["level_"] == "odd"
    assert str(line["time"]).endswith("+00:00")


def test_exceptions_are_one_json_line_without_secrets() -> None:
    stream = io.StringIO()
    logs.setup("info", "json", stream=stream, environ={})
    try:
        raise ValueError("password=geheim")
    except ValueError:
        logging.getLogger("crmd.x").exception("broken")
    (line,) = lines_of(stream)
    assert "ValueError: password=***" in str(line["exception"])


def test_text_has_time_level_and_fields() -> None:
    stream = io.StringIO()
    logs.setup("debug", "text", stream=stream, environ={})
    logging.getLogger("crmd.queues").warning("job.failed", extra={"fields": {"error": "no such host", "n": 1}})
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING queues: job.failed error="no such host" n=1\n',
        stream.getvalue(),
    )


@pytest.mark.parametrize("style", ["text", "journal", "json"])
def test_no_line_moves_the_cursor(style: logs.Style) -> None:
    escapes = "\x1b]0;owned\x07\r\x9b2J\u202e"
    fields = {"error": escapes, "key": "a\x1bb"}
    record = logging.LogRecord("crmd.x", logging.ERROR, __file__, 1, "failed: %s", (escapes,), None)
    record.fields = fields
    try:
        raise ValueError(escapes)
    except ValueError:
        record.exc_info = sys.exc_info()
    text = logs.formatter(style).format(record)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "owned" in text


def test_a_terminal_gets_text() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb"), os.fdopen(follower, "w") as stream:
        assert logs.style("auto", stream, {}) == "text"


def test_the_journal_gets_priorities_on_every_line(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        logs.setup("info", "auto", stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        logging.getLogger("crmd.x").error("two\nlines")
        stream.seek(0)
        assert stream.read() == "<3>x: two\n<3>lines\n"


def test_a_foreign_journal_stream_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as stream:
        assert logs.style("auto", stream, {"JOURNAL_STREAM": "1:2"}) == "json"


def test_setup_twice_changes_the_level_and_writes_once() -> None:
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream, environ={})
    logs.setup("error", "json", stream=stream, environ={})
    logging.getLogger("crmd.x").warning("not shown")
    logging.getLogger("crmd.x").error("shown")
    assert [line["message"] for line in lines_of(stream)] == ["shown"]


def test_saq_does_not_show_payloads() -> None:
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream, environ={})
    job = Job("send_message", kwargs={"text": "geheim"}, key="k1")
    logging.getLogger("saq").info("Processing %s", job)
    logging.getLogger("saq").error("Error processing job %s", job)
    assert [line["message"] for line in lines_of(stream)] == ["Error processing job k1"]


def test_a_wrong_log_call_is_reported_and_not_raised() -> None:
    stream = io.StringIO()
    record = logging.LogRecord("crmd.x", logging.INFO, "file.py", 7, "%d", ("no number",), None)
    logs.LogHandler(stream, logs.formatter("json")).emit(record)
    (line,) = lines_of(stream)
    assert "file.py:7" in str(line["message"])


class FullDisk(io.StringIO):
    full = True

    def write(self, text: str, /) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_lines_lost_on_a_full_disk_are_told_of_afterwards() -> None:
    stream = FullDisk()
    logs.setup("info", "json", stream=stream, environ={})
    log = logging.getLogger("crmd.x")
    log.info("one")
    log.info("two")
    stream.full = False
    log.info("three")
    log.info("four")
    messages = [line["message"] for line in lines_of(stream)]
    assert messages == ["2 log lines before this one could not be written", "three", "four"]


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:geheim@host:6379/0",
        "redis://:geheim@host",
        "redis://:ge@geheim@host",
        "redis+sentinel://:geheim@h1:26379,h2:26379/mymaster/0",
        '{"token": "geheim", "to": 1}',
        '{"token": "with \\"quotes\\" geheim"}',
        "{'app_secret': 'geheim'}",
        "send_message(access_token='geheim', to='1')",
        "GET /v1?api_key=geheim&page=2",
        "Authorization: Basic geheim",
        "authorization: Bearer geheim",
        "Set-Cookie: session=geheim; Path=/",
        "connect with Bearer geheim.geheim",
        "PASSWORD=geheim",
    ],
)
def test_masks(text: str) -> None:
    masked = redact(text)
    assert "geheim" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "text",
    [
        "whatsapp.token: must be a string",
        "http://localhost:8080/admin/queues",
        "auth.password is not set; run `crmd password set`",
        "job.failed queue=email key=order:17@shop error=timeout",
    ],
)
def test_leaves_the_rest_alone(text: str) -> None:
    assert redact(text) == text


def test_fields_are_masked_by_name_at_any_depth() -> None:
    fields = {"key": "a", "api_key": "x", "headers": {"Cookie": "y"}, "urls": ["redis://:z@h"], "count": 3}
    assert redact_fields(fields) == {
        "key": "a",
        "api_key": "***",
        "headers": {"Cookie": "***"},
        "urls": ["redis://:***@h"],
        "count": 3,
    }


@pytest.mark.parametrize("piece", ["a", "a.b-", "token", "://a:", '"', "cookie ", "password = '"])
def test_long_lines_take_no_quadratic_time(piece: str) -> None:
    began = time.process_time()
    redact(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 1


SECRETS = [
    '{{"password": "{}"}}',
    "{{'api_key': '{}'}}",
    "token={}",
    'secret = "{}"',
    "Authorization: Basic {}",
    "Bearer {}",
    "redis://user:{}@host/0",
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("gap", ["", " with spaces "])
def test_no_cut_shows_a_secret(text: str, gap: str) -> None:
    secret = "geheim" + (gap if '"' in text or "'" in text else "") + "geheim" * 20
    for padding in range(60):
        written = "x" * padding + " " + text.format(secret) + " and so on" * 300
        for limit in (20, 40, 50, 80, 200):
            cut = redact_start(written, limit)
            assert "geheim" not in cut
            assert len(cut) <= limit + 1
            assert "geheim" not in redact_repr({"a": written, "b": [written]}, limit)
            assert "geheim" not in redact_repr({"x" * padding: 1, "token": secret}, limit)


class Watched(dict[str, Any]):
    """A dictionary that counts how much of it was looked at."""

    looked_at = 0

    def items(self) -> Any:
        for item in super().items():
            Watched.looked_at += 1
            yield item


def test_no_more_of_a_value_is_looked_at_than_is_shown() -> None:
    large = Watched({f"key{number}": {"password": "geheim", "text": "x" * 1_000} for number in range(10_000)})
    text = redact_repr(large, 2_000)
    assert len(text) <= 2_001
    assert "geheim" not in text
    assert Watched.looked_at < 20


def test_only_the_start_of_a_text_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[int] = []

    def count(text: str) -> str:
        masked.append(len(text))
        return text

    monkeypatch.setattr(redact_module, "redact", count)
    for value in ("x" * 250_000, ["x" * 250_000] * 50, {"a": "x" * 250_000, "b": ["y" * 250_000] * 9}):
        masked.clear()
        redact_repr(value, 2_000)
        assert sum(masked) < 10_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [1.5, None, True], "token": {"x": 1}}, "{'a': 1, 'b': [1.5, None, True], 'token': '***'}"),
        ("password=geheim", "password=***"),
        ([], "[]"),
        (None, "None"),
        (10**4_000, "…"),
    ],
)
def test_small_values_are_shown_whole(value: Any, text: str) -> None:
    assert redact_repr(value, 1_000) == text


def test_a_deep_value_is_cut_below_some_levels() -> None:
    deep: Any = "geheim"
    for _ in range(5_000):
        deep = [deep]
    assert redact_repr(deep, 20_000) == "[" * 21 + "…" + "]" * 21
