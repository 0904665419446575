"""Valid requests to every route, and seeded mutations of them: what attackers and broken clients send."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

APP_SECRET = "a long secret"
TOKEN = "s3cret"

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"),
    *("get", "P OST", "X", "G\0T", ""),
)
TEXTS = (
    *("\ud800", "a\udfff", "\x00", "\u202e", "x" * 70_000, "", " ", "null", "1e999", "-1", "\U0001f600", "\ufeff"),
    *("{{ 7*7 }}", "%00", "../../etc/passwd", "\r\nX: y", "'\"<>;--", "9" * 400, "1" * 5_000, "+491701234567"),
)
NUMBERS = (0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400, 0.5, -0.0, 1e308)
RAW_VALUES = (
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9" * 5_000,
    b'"\\ud800"',
    b'"\xed\xa0\x80"',
    b'"\xff"',
    b"01",
)
DEPTHS = (50, 500, 900, 1_500, 100_000)
ESCAPES = (
    "%00",
    "%ED%A0%80",
    "%FF",
    "%2e%2e%2f",
    "%",
    "%zz",
    "//",
    "?",
    "#",
    "%C3%28",
    "\u00e9",
    "\xff",
    "x" * 3_000,
    ";",
)
QUERIES = (
    *(
        "limit=9e99",
        "limit=-1",
        "limit=1&limit=2",
        "limit=%31",
        "cursor=x",
        "cursor=aWQ6OQ",
        "search=%ED%A0%80",
        "=",
        "&&",
    ),
    *(
        "wait=1e999s",
        "wait=-1s",
        "wait=",
        "wait=10ms",
        "state=nope",
        "state=failed",
        "search=%00",
        "search=" + "x" * 3_000,
    ),
    *("cursor=" + "9" * 60, "cursor=-1", "phone=%00", "phone=%2B49", "name=%ED%A0%80", "after=9" + "9" * 30),
)
HEADERS = (
    *("Host: evil", "Host: a\r\nHost: b", "Host: [::1", "Host:", "Host: localhost:99999", "Host: \xff"),
    *(
        "Content-Type: text/plain",
        "Content-Type: application/json; charset=utf-16",
        "Content-Type: ;;;",
        "Content-Type: \xff",
    ),
    *("Content-Type: multipart/form-data", "Content-Type: multipart/form-data; boundary=" + "b" * 90),
    *(
        "Content-Encoding: gzip",
        "Content-Encoding: identity",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
    ),
    *("Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 0x10"),
    *(
        "Range: bytes=9-1",
        "Range: bytes=-0",
        "Range: bytes=" + "9" * 400 + "-",
        "Range: x",
        "If-Range: x",
        'If-Match: "x',
    ),
    *(
        "If-Modified-Since: x",
        "If-Modified-Since: Thu, 99 Foo 99999 99:99:99 GMT",
        "If-None-Match: *",
        "If-Unmodified-Since: 0",
    ),
    *("Authorization: Basic !!!", "Authorization: Basic /w==", "Authorization: Bearer \xff", "Authorization:"),
    *("Idempotency-Key: \xff", "Idempotency-Key: " + "k" * 300, "Idempotency-Key: a", "Idempotency-Key:"),
    *(
        "X-Forwarded-For: \xff, 1.2.3.4:x",
        "X-Forwarded-Host: [",
        'Forwarded: for="',
        "Origin: http://[",
        "Origin: null",
    ),
    *(
        "Sec-Fetch-Site: cross-site",
        "Cookie: =;=;\xff",
        "Accept: text/html",
        "Accept-Encoding: gzip;q=x",
        "Expect: x",
    ),
    *(
        "Expect: 100-continue",
        "Upgrade: websocket\r\nConnection: upgrade",
        "Connection: close",
        "X: " + "y" * 9_000,
    ),
    *(
        "X\0: y",
        "X : y",
        ": y",
        "X",
        "X: a\r\n b",
        "Content-Disposition: attachment; filename*=utf-8''%FF",
        "Content-Disposition: ;",
    ),
    *("X-Hub-Signature-256: sha256=\xff", "X-Hub-Signature-256:", "Sec-WebSocket-Key1: x", "Last-Event-ID: \xff"),
)
CHUNK_LINES = (
    b"0x10",
    b"FFFFFFFFFFFFFFFFF",
    b"-1",
    b"",
    b"g",
    b"1 ;x",
    b"1;" + b"x" * 9_000,
    b"00000000000000001",
    b"1\n",
)
PART_HEADERS = (
    *(
        b"Bad\0Header: x",
        b": x",
        b"no colon",
        b"X: " + b"y" * 9_000,
        b"X: \xff",
        b"Content-Length: x",
        b"Content-Length: -5",
    ),
    *(
        b"Content-Type: \xff",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: x",
        b"Content-Encoding: gzip",
    ),
    *(
        b"Content-Disposition: form-data; name=a; filename=\xff",
        b"Content-Disposition: form-data; filename*=x''%FF%00",
    ),
    *(
        b"Content-Disposition: ;;;",
        b"Content-Type: multipart/mixed; boundary=b",
        b"\tfolded",
        b"X: a\rb",
        b"Content-Length: 3",
    ),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, not yet bytes."""

    method: str
    path: str
    body: Any = None
    """JSON; or bytes, as they are."""
    headers: tuple[str, ...] = ()
    signed: bool = False
    raw: bytes | None = None
    """The body in bytes, in place of `body`."""
    chunks: tuple[bytes, ...] = field(default=())
    """The chunked body as it is, in place of a length."""

    def to_bytes(self, *, login: bool) -> bytes:
        """As it goes over the wire."""
        body = self.content()
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        names = {line.partition(":")[0].lower() for line in self.headers}
        if "host" not in names:
            lines.append("Host: localhost")
        if login and "authorization" not in names:
            lines.append(f"Authorization: Bearer {TOKEN}")
        if self.signed:
            digest = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
            lines.append(f"X-Hub-Signature-256: sha256={digest}")
        if body and "content-type" not in names:
            lines.append("Content-Type: application/json")
        lines.extend(self.headers)
        if self.chunks:
            lines.append("Transfer-Encoding: chunked")
        elif body and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("latin-1", "replace") + (b"".join(self.chunks) or body)

    def content(self) -> bytes:
        """The body."""
        if self.raw is not None:
            return self.raw
        return b"" if self.body is None else json.dumps(self.body).encode()


def form(part_headers: bytes = b"", content: bytes = b"a,b\r\n1,2\r\n", end: bytes = b"--b--\r\n") -> bytes:
    """A form with one file."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n'
    return b"--b\r\n" + part_headers + disposition + b"\r\n" + content + b"\r\n" + end


def valid_requests(described: Mapping[str, Any], jobs: Mapping[str, tuple[str, Any]]) -> list[Request]:
    """A valid request for each described operation, each of the jobs (by queue), and what else there is."""
    found = []
    schemas = described["components"]["schemas"]
    fill = {"queue": "email", "key": "nope", "name": "welcome", "id": "1", "file": "crmd.js"}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            real = path.format(**fill)
            found.append(Request(method.upper(), real, None if body is None else _example(body, schemas)))
    for queue, (job, payload) in jobs.items():
        path = f"/api/v1/queues/{queue}/jobs"
        found.extend([Request("POST", path, {"job": job, "payload": payload})] * 3)
        found.append(Request("POST", path, {"jobs": [{"job": job, "payload": payload, "delay": "1h"}] * 2}))
    event = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": _event_value()}]}],
    }
    flow = {"steps": [{"id": "hello", "type": "send", "text": {"body": "hello {{ contact.name }}"}}]}
    page = "/admin/queues/api/queues/email"
    return [
        *found,
        *[Request("PUT", "/api/v1/flows/welcome", flow)] * 3,
        *[Request("POST", "/webhooks/whatsapp", event, signed=True)] * 4,
        Request("POST", "/webhooks/whatsapp", event),
        Request("GET", "/webhooks/whatsapp?hub.mode=subscribe&hub.verify_token=x&hub.challenge=1"),
        *[Request("POST", "/api/v1/files?name=a.csv", raw=b"a,b\n", headers=("Content-Type: text/csv",))] * 2,
        *[Request("POST", "/api/v1/files", raw=form(), headers=("Content-Type: multipart/form-data; boundary=b",))]
        * 6,
        *(
            Request("GET", one)
            for one in ("/", "/admin/queues", "/admin/queues/api/queues", page, f"{page}?limit=5")
        ),
        Request("GET", f"{page}/jobs/nope"),
        *(Request("POST", f"{page}{verb}") for verb in ("/resume", "/jobs/nope/retry", "/jobs/nope/abort")),
        Request("GET", "/admin/queues/static/crmd.js"),
    ]


def surely_malformed(valid: Iterable[Request]) -> list[Request]:
    """Each valid document with half a character in place of each value, and forms with malformed parts."""
    documents = {one.path: one for one in valid if one.body is not None and "jobs" not in one.body}.values()
    halves = [replace(one, body=body) for one in documents for body in _each_replaced(one.body, "\ud800")]
    kind = ("Content-Type: multipart/form-data; boundary=b",)
    parts = [Request("POST", "/api/v1/files", raw=form(header + b"\r\n"), headers=kind) for header in PART_HEADERS]
    return halves + parts


def _each_replaced(value: Any, new: Any) -> Iterator[Any]:
    yield new
    if isinstance(value, dict):
        for name in value:
            yield from ({**value, name: one} for one in _each_replaced(value[name], new))
    elif isinstance(value, list):
        for at in range(len(value)):
            yield from ([*value[:at], one, *value[at + 1 :]] for one in _each_replaced(value[at], new))


def mutate(request: Request, rng: random.Random) -> Request:
    """The request with one to three things changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kinds: list[Callable[[Request, random.Random], Request]] = [_method, _path, _query, _headers]
        if request.content():
            kinds += [_bytes, _chunked]
        if request.body is not None and request.raw is None:
            kinds += [_json] * 6
        if request.raw is not None and b"--b" in request.raw:
            kinds += [_form] * 6
        request = rng.choice(kinds)(request, rng)
    return request


def _method(request: Request, rng: random.Random) -> Request:
    return replace(request, method=rng.choice(METHODS))


def _path(request: Request, rng: random.Random) -> Request:
    at = rng.randrange(len(request.path) + 1)
    return replace(request, path=request.path[:at] + rng.choice(ESCAPES) + request.path[at:])


def _query(request: Request, rng: random.Random) -> Request:
    return replace(request, path=f"{request.path}{'&' if '?' in request.path else '?'}{rng.choice(QUERIES)}")


def _headers(request: Request, rng: random.Random) -> Request:
    return replace(request, headers=(*request.headers, rng.choice(HEADERS)))


def _json(request: Request, rng: random.Random) -> Request:
    """One value of the document replaced; by what JSON has no value for, too."""
    marker = f"marker-{rng.random()}"
    changed = _replaced(request.body, rng, marker)
    raw = json.dumps(changed).encode()
    return replace(request, raw=raw.replace(json.dumps(marker).encode(), _value(rng), 1))


def _value(rng: random.Random) -> bytes:
    pick = rng.randrange(8)
    if pick < 3:
        return json.dumps(rng.choice(TEXTS)).encode()
    if pick == 3:
        return json.dumps(rng.choice(NUMBERS)).encode()
    if pick == 4:
        depth = rng.choice(DEPTHS)
        return b"[" * depth + b"]" * depth if rng.random() < 0.5 else b'{"a":' * depth + b"1" + b"}" * depth
    if pick == 5:
        return rng.choice(RAW_VALUES)
    return json.dumps(rng.choice((None, True, [], {}, [None], {"": {}}, {"\ud800": 1}, ["x"] * 3_000))).encode()


def _replaced(value: Any, rng: random.Random, marker: str) -> Any:
    """A copy whose value somewhere, or name of a value, is the marker."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {**value, marker: value[name]}
        return {**value, name: _replaced(value[name], rng, marker)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], _replaced(value[at], rng, marker), *value[at + 1 :]]
    return marker


def _bytes(request: Request, rng: random.Random) -> Request:
    raw = bytearray(request.content())
    pick = rng.randrange(5)
    at = rng.randrange(len(raw))
    if pick == 0:
        raw[at] = rng.randrange(256)
    elif pick == 1:
        del raw[at:]
    elif pick == 2:
        raw[at:at] = rng.choice((b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\xef\xbb\xbf", b"{" * 2_000))
    elif pick == 3:
        raw = bytearray(raw.decode("latin-1").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig"))))
    else:
        raw = raw * 2
    return replace(request, raw=bytes(raw))


def _chunked(request: Request, rng: random.Random) -> Request:
    body = request.content()
    size = rng.choice((1, 7, 1_000_000))
    parts = [body[at : at + size] for at in range(0, min(len(body), 2_000 * size), size)]
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    if rng.random() < 0.5:
        chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(CHUNK_LINES) + b"\r\nx\r\n")
    end = rng.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nbad trailer\0\r\n\r\n", b"0\r\n"))
    return replace(request, chunks=(*chunks, end))


def _form(request: Request, rng: random.Random) -> Request:
    pick = rng.randrange(4)
    if pick < 2:
        raw = form(rng.choice(PART_HEADERS) + b"\r\n")
    elif pick == 2:
        raw = form(
            end=rng.choice((b"", b"--b", b"--c--\r\n", b"--b\r\n", b"--b\r\n\r\n--b--", b"--b--" + b"x" * 5_000))
        )
    else:
        raw = form(content=rng.choice((b"", b"--b", b"\r\n--b\r\n", b"\xff" * 1_000, b"x" * 300_000)))
    return replace(request, raw=raw)


def _event_value() -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001", "phone_number_id": "1"},
        "contacts": [{"profile": {"name": "Ada"}, "wa_id": "491701234567"}],
        "messages": [
            {
                "from": "491701234567",
                "id": "wamid.1",
                "timestamp": "1700000000",
                "type": "text",
                "text": {"body": "hi"},
            }
        ],
        "statuses": [
            {"id": "wamid.2", "status": "sent", "timestamp": "1700000000", "recipient_id": "491701234567"}
        ],
    }


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that a JSON schema allows, as far as its types tell."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return _example(schema[name][0], schemas, depth)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    kind = schema.get("type")
    if kind == "object":
        named = {"rate": "20/min", "at": "2090-01-01T00:00:00Z", "delay": None}
        return {
            name: named.get(name, _example(one, schemas, depth + 1))
            for name, one in schema.get("properties", {}).items()
            if depth < 5
        }
    if kind == "array":
        return [_example(schema.get("items", {}), schemas, depth + 1)] if depth < 5 else []
    examples = {"string": "1h", "integer": 1, "number": 1, "boolean": True}
    return examples.get(str(kind))
