"""Secrets do not get through."""

from __future__ import annotations

import time
from typing import Any

import pytest

from crmd.telemetry import redact as redact_module
from crmd.telemetry.redact import redact, redact_fields, redact_repr, redact_start


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
