"""Log lines: text for people and the journal, JSON lines for machines, never a secret."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from crmd.telemetry.redact import redact, redact_fields

LogFormat = Literal["auto", "text", "json"]
Style = Literal["text", "journal", "json"]

# Levels below which other libraries are not heard: SAQ's info lines hold payloads, aiohttp logs each request.
# urllib3's debug lines hold the paths of webhooks, which are secrets.
QUIET = {
    "saq": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "urllib3": logging.WARNING,
}


def setup(
    level: str,
    format: LogFormat = "auto",
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Sends all log records to standard error; may be called again to change level and format."""
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, LogHandler)]:
        root.removeHandler(old)
    root.addHandler(LogHandler(stream, formatter(style(format, stream, environ))))
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def style(format: LogFormat, stream: TextIO, environ: Mapping[str, str]) -> Style:
    """How lines look: `auto` is text on a terminal and under the journal, else JSON."""
    if format == "json":
        return "json"
    if _is_journal(stream, environ):
        return "journal"
    return "text" if format == "text" or stream.isatty() else "json"


class LogHandler(logging.Handler):
    """Writes lines. Those that cannot be written (full disk, closed pipe) are counted, and told of afterwards."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self._stream = stream
        self._lost_count = 0
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; never raises."""
        try:
            lines = self._lost_notice() + self._format(record) + "\n"
            self._stream.write(lines)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost_count += 1
        else:
            self._lost_count = 0

    def _format(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:
            where = f"{record.pathname}:{record.lineno}"
            return self.format(
                _record(f"a log line of {where} cannot be formatted: {type(error).__name__}: {error}")
            )

    def _lost_notice(self) -> str:
        if not self._lost_count:
            return ""
        return self.format(_record(f"{self._lost_count} log lines before this one could not be written")) + "\n"


def formatter(style: Style) -> logging.Formatter:
    """The formatter of a style."""
    return {"text": TextFormatter, "journal": JournalFormatter, "json": JsonFormatter}[style]()


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.000 INFO    queues.worker: message field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one or more lines without secrets and control characters."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{at}.{int(record.msecs):03d} {record.levelname:<7} "
        return head + self.body(record)

    def body(self, record: logging.LogRecord) -> str:
        """What a person reads: logger, message, fields and traceback."""
        logger = record.name.removeprefix("crmd.")
        fields = "".join(f" {name}={_format_value(value)}" for name, value in _fields(record).items())
        return _printable("\n".join([f"{logger}: {_message(record)}{fields}", *_trace(self, record)]))


class JournalFormatter(TextFormatter):
    """Lines with a priority and without a time, which the journal has itself."""

    def format(self, record: logging.LogRecord) -> str:
        """The record; each line has the priority, as the journal reads line by line."""
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in self.body(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object on one line: time, level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON without secrets."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in _fields(record).items():
            line[f"{name}_" if name in line else name] = value
        if trace := _trace(self, record):
            line["exception"] = "\n".join(trace)
        return json.dumps(line, default=lambda value: redact(str(value)))


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.args, tuple) and any(map(_is_saq_job, record.args)):
        args = tuple(getattr(arg, "key", "") if _is_saq_job(arg) else arg for arg in record.args)
        return redact(str(record.msg) % args)
    return redact(record.getMessage())


def _is_saq_job(value: object) -> bool:
    # SAQ's repr of a job shows its payload. Told by name, as telemetry stands below SAQ.
    return type(value).__module__ == "saq.job"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return redact_fields(getattr(record, "fields", {}))


def _format_value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else redact(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=\n\r\t') else text


def _printable(text: str) -> str:
    """The text with control characters written out: a payload's may not move a reader's cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    if record.stack_info:
        text += "\n" * bool(text) + formatter.formatStack(record.stack_info)
    return redact(text).splitlines()


def _record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
    )


def _priority(level: int) -> int:
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one systemd connected to the journal, which `$JOURNAL_STREAM` names by inode."""
    named = environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # ValueError: the stream has no descriptor
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
