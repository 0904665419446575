"""Which payloads `deliver_webhook` takes: URLs, headers and data."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from crmd.crm.webhooks.jobs import DeliverWebhook


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http:///path",
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://@example.com/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Evil: 1",
        "http://good.example\\@evil.example/",
        "http://%31%32%37.0.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_cannot_be_posted_to_are_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DeliverWebhook(url=url, event="e", data=None)
    [error] = caught.value.errors()
    assert error["loc"] == ("url",)


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "http://example.com:8080/a?b=c@d", "https://ex-ample.example./", "http://[2606::1]/"],
)
def test_good_urls_pass(url: str) -> None:
    assert DeliverWebhook(url=url, event="e", data=None).url == url


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "content-type",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "webhook-id",
        "Webhook-Signature",
        "X-Forwarded-For",
        "x-real-ip",
        "X-HTTP-Method-Override",
        "Proxy-Authorization",
        "X Y",
        "X-A:",
        "",
    ],
)
def test_headers_that_could_mislead_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook.model_validate({"url": "https://example.com", "event": "e", "headers": {name: "x"}})


@pytest.mark.parametrize("value", ["", "a\r\nX-Evil: 1", "a\x00", "é", " a", "x" * 1025])
def test_header_values_are_plain_text(value: str) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook.model_validate({"url": "https://example.com", "event": "e", "headers": {"X-A": value}})


@pytest.mark.parametrize("data", [float("nan"), [float("inf")], {"a": {"b": float("-inf")}}])
def test_data_must_be_json(data: Any) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook(url="https://example.com", event="e", data=data)
