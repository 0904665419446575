"""Opaque cursors for pages that are ordered by id."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from aiohttp import web

from crmd.http.problems import HttpProblem


def write_cursor(row_id: int) -> str:
    """The cursor that points behind a row."""
    return base64.urlsafe_b64encode(f"id:{row_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> int | None:
    """The row's id; raises HttpProblem 422 if the cursor is not one of ours."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    name, _, number = text.partition(":")
    if name != "id" or not number.isdigit() or len(number) > 18:
        raise HttpProblem(422, "cursor: is not one that this list gave out")
    return int(number)


def row_id(text: str, what: str) -> int:
    """The id in a path; raises HttpProblem 404 if it cannot be one."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HttpProblem(404, f"there is no {what} {text[:40]!r}")
    return int(text)


def page(name: str, rows: list[dict[str, Any]], limit: int) -> web.Response:
    """Answers a page of `limit` rows; one row more than that means that there is another page."""
    cursor = write_cursor(rows[limit - 1]["id"]) if len(rows) > limit else None
    return web.json_response({name: rows[:limit], "cursor": cursor})
