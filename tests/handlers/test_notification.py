"""`notify` writes to the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from crmd.handlers.notification import Notify, notify
from crmd.telemetry.logs import formatter
from tests.support.context import make_context


async def run(**payload: Any) -> object:
    return await notify(
        make_context(queue="notification", name="notify"), Notify.model_validate({"message": "m", **payload})
    )


@pytest.mark.parametrize(
    ("level", "number"), [("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)]
)
async def test_it_logs_one_line_of_that_level(caplog: pytest.LogCaptureFixture, level: str, number: int) -> None:
    caplog.set_level(logging.INFO)
    result = await run(title="Quota", message="80 % of the messages are used", level=level)
    assert result == {"channel": "log", "level": level}
    [record] = caplog.records
    assert record.levelno == number
    assert record.getMessage() == "notification: Quota: 80 % of the messages are used"
    assert record.__dict__["fields"] == {"channel": "log", "level": level}


async def test_the_text_cannot_pass_itself_off_as_other_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await run(message="été 🦊\n2026-01-01 ERROR forged\x1b[31m\u2028end")
    [record] = caplog.records
    assert record.getMessage() == "notification: été 🦊\\n2026-01-01 ERROR forged\\x1b[31m\\u2028end"
    assert len(formatter("text").format(record).splitlines()) == 1


@pytest.mark.parametrize(
    "payload",
    [{"message": ""}, {"message": " \n"}, {"message": "x" * 4001}, {"level": "loud"}, {"channel": "pager"}],
)
def test_bad_payloads_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Notify.model_validate({"message": "m", **payload})
