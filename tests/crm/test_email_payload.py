"""What `send_email` takes, and what it refuses before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.email.jobs import send_email
from crmd.errors import InvalidPayload
from crmd.jobs import JobSpec, spec_of

MAIL = {"to": "ann@example.org", "subject": "Hello", "text": "Good news."}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no recipient": ({"to": []}, "to: "),
    "no address": ({"to": "Ann"}, "is not a mail address"),
    "two in one": ({"to": "ann@example.org, bob@example.org"}, "more than one address"),
    "a line end in an address": ({"to": "ann@example.org\r\nBcc: eve@example.net"}, "line ends"),
    "a line end in a name": ({"cc": "Ann\u2028Bcc <ann@example.org>"}, "line ends"),
    "a space in an address": ({"bcc": "ann smith@example.org"}, "before the @"),
    "an address with a command": ({"to": "<ann@example.org> SIZE=1"}, "to.0"),
    "no domain": ({"to": "ann@"}, "no valid domain"),
    "a bad domain": ({"to": "ann@-example-.org"}, "no valid domain"),
    "a long local part": ({"to": "a" * 65 + "@example.org"}, "before the @"),
    "too many recipients": ({"to": [f"a{n}@example.org" for n in range(101)]}, "101 recipients"),
    "a bad sender": ({"sender": "nobody"}, "sender: is not a mail address"),
    "no subject": ({"subject": " "}, "subject: must not be blank"),
    "two lines of subject": ({"subject": "a\nBcc: eve@example.net"}, "must be one line"),
    "no text": ({"text": None}, "needs text, html or both"),
    "a broken template": ({"text": "{{ name", "variables": {}}, "text: line 1"),
    "a template of the sandbox": ({"subject": "{{ ''.__class__ }}", "variables": {}}, "subject: "),
    "our own header": ({"headers": {"From": "x"}}, "the header From cannot be set"),
    "Message-ID": ({"headers": {"message-id": "<a@b>"}}, "cannot be set"),
    "Content-Type": ({"headers": {"Content-Type": "x"}}, "cannot be set"),
    "a colon in a header": ({"headers": {"X-A: b\r\nBcc": "x"}}, "cannot be set"),
    "a line end in a header": ({"headers": {"X-A": "b\r\nBcc: eve@example.net"}}, "must be one line"),
    "no source": ({"attachments": [{"name": "a.pdf"}]}, "exactly one of file, path and url"),
    "two sources": ({"attachments": [{"path": "a", "file": "b"}]}, "exactly one of file, path and url"),
    "a path out": ({"attachments": [{"path": "a/../../b"}]}, "without .."),
    "a path from the root": ({"attachments": [{"path": "/etc/passwd"}]}, "below the folder attachments"),
    "a name with a folder": ({"attachments": [{"path": "a", "name": "../a"}]}, "name"),
    "another scheme": ({"attachments": [{"url": "file:///etc/passwd"}]}, "must begin with https://"),
    "a password": ({"attachments": [{"url": "https://a:b@example.org/"}]}, "user or password"),
    "a mail in a mail": ({"attachments": [{"path": "a", "media_type": "message/rfc822"}]}, "media_type"),
    "an unknown field": ({"body": "x"}, "body: "),
}


def spec() -> JobSpec:
    found = spec_of(send_email)
    assert found is not None
    return found


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str) -> None:
    fields, said = BAD[case]
    with pytest.raises(InvalidPayload) as caught:
        spec().validate({**MAIL, **fields})
    assert said in str(caught.value)


GOOD: list[dict[str, Any]] = [
    {"to": ["ann@example.org", '"Smith, Ann" <ann.smith+crm@sub.example.org>']},
    {"to": "root@localhost", "sender": "Müller <m@bücher.example>"},
    {"text": None, "html": "<p>Hi {{ name }}</p>", "variables": {"name": None, "list": [1, {"a": True}]}},
    {"subject": "👨‍👩‍👧 family", "headers": {"List-Id": "news <news.example.org>", "In-Reply-To": "<a@b>"}},
    {"attachments": [{"path": "2024/a.pdf", "name": "Rechnung März.pdf", "media_type": "application/pdf"}]},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_is_right_is_taken(fields: dict[str, Any]) -> None:
    spec().validate({**MAIL, **fields})
