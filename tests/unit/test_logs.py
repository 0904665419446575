"""What log lines look like, where they go, and what does not get into them."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from saq.job import Job

from crmd.telemetry import logs


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
