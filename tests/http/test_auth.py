"""Who gets in: passwords, tokens, what is open, and who is held back."""

from __future__ import annotations

import asyncio
import base64
import random
import statistics
import time
from typing import Any

import pytest
from aiohttp_basicauth import BasicAuthMiddleware

from crmd.config.tables import AuthTable
from crmd.http.auth import AuthMiddleware, parse_credentials
from crmd.http.peers import FAILURES, FailedAttempts
from tests.support.http import PASSWORD, USER, Site, basic, site, token_table

JOBS = "/api/v1/queues/message/jobs"
SUMMARIES = ("/metrics", "/api/v1/queues/health", "/api/v1/queues/metrics", "/api/v1/queues/statistics")
CLOSED = (
    "/api/v1/queues",
    "/api/v1/queues/message",
    JOBS,
    "/api/v1/workers",
    "/api/v1/openapi.json",
    "/admin/queues",
)


def test_authentication_is_aiohttp_basicauths_middleware() -> None:
    assert issubclass(AuthMiddleware, BasicAuthMiddleware)


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
async def test_a_password_beyond_ascii_fits_in_both_charsets(web: Site, charset: str) -> None:
    headers = {"Authorization": basic(USER, PASSWORD, charset)}
    await web.expect(200, "GET", "/api/v1/queues", auth=False, headers=headers)


@pytest.mark.parametrize("path", CLOSED)
async def test_strangers_are_asked_for_credentials(web: Site, path: str) -> None:
    status, body, headers = await web.call("GET", path, auth=False)
    assert (status, body["status"]) == (401, 401)
    assert headers["WWW-Authenticate"] == 'Basic realm="crmd", charset="UTF-8"'


async def test_strangers_do_not_learn_which_paths_exist(web: Site) -> None:
    for method, path in (("GET", "/nowhere"), ("DELETE", "/api/v1/queues"), ("GET", "/api/v1/queues/nope")):
        assert (await web.call(method, path, auth=False))[0] == 401


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
async def test_probes_are_open_whatever_is_sent(web: Site, path: str) -> None:
    for headers in (
        {},
        {"Authorization": basic("x", "y")},
        {"X-Forwarded-For": "1.2.3.4"},
        {"Host": "any.example"},
    ):
        assert (await web.call("GET", path, auth=False, headers=headers))[0] == 200


@pytest.mark.parametrize("path", SUMMARIES)
async def test_summaries_are_open_on_loopback_but_not_through_a_proxy(web: Site, path: str) -> None:
    assert (await web.call("GET", path, auth=False))[0] == 200
    for name in ("Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Anything"):
        assert (await web.call("GET", path, auth=False, headers={name: "x"}))[0] == 401
        assert (await web.call("GET", path, headers={name: "x"}))[0] == 200


async def test_summaries_are_closed_on_other_addresses_unless_made_public(store_url: str) -> None:
    async with site(store_url, http={"host": "0.0.0.0"}) as closed:
        url = f"http://127.0.0.1:{closed.server.address[1]}"
        async with closed.session.get(f"{url}/metrics") as response:
            assert response.status == 401
    async with site(store_url, http={"host": "0.0.0.0"}, auth={"public_metrics": True}) as public:
        url = f"http://127.0.0.1:{public.server.address[1]}"
        async with public.session.get(f"{url}/metrics", headers={"X-Forwarded-For": "x"}) as response:
            assert response.status == 200
        async with public.session.get(f"{url}/api/v1/queues") as response:
            assert response.status == 401


@pytest.mark.parametrize(
    ("scopes", "path", "method", "status"),
    [
        (("read",), JOBS, "GET", 200),
        (("read",), JOBS, "POST", 403),
        (("enqueue",), JOBS, "POST", 422),
        (("enqueue",), JOBS, "GET", 403),
        (("operate",), "/api/v1/queues/message/pause", "POST", 200),
        (("read", "enqueue"), "/api/v1/queues/message/pause", "POST", 403),
        (("operate",), "/api/v1/queues/message", "GET", 403),
        (("read",), "/admin/queues", "GET", 200),
        (("read",), "/admin/queues/api/queues/message/pause", "POST", 403),
        (("enqueue",), "/api/v1/queues/health", "GET", 200),
    ],
)
async def test_a_token_does_what_its_scopes_say(
    store_url: str, scopes: tuple[str, ...], path: str, method: str, status: int
) -> None:
    async with site(store_url, auth={"tokens": {"shop": token_table("s3cret", *scopes)}}) as made:
        headers = {"Authorization": "Bearer s3cret"}
        await made.expect(status, method, path, auth=False, headers=headers)


async def test_a_token_for_some_queues_sees_only_those(store_url: str) -> None:
    table = token_table("s3cret", "read", "operate", queues=("email",))
    async with site(store_url, auth={"tokens": {"shop": table}}) as made:
        headers = {"Authorization": "bearer s3cret", "X-Forwarded-For": "x"}

        async def status(path: str) -> int:
            return (await made.call("GET", path, auth=False, headers=headers))[0]

        listed = await made.get("/api/v1/queues", auth=False, headers=headers)
        assert [queue["name"] for queue in listed["queues"]] == ["email"]
        assert await status("/api/v1/queues/email") == 200
        closed = ("/api/v1/queues/message", "/api/v1/workers", "/admin/queues", "/api/v1/queues/health")
        assert [await status(path) for path in closed] == [403, 403, 403, 403]


async def test_a_reload_takes_other_credentials_into_force(web: Site) -> None:
    web.server.configure(AuthTable(username="other"), "another password")
    assert (await web.call("GET", "/api/v1/queues"))[0] == 401
    headers = {"Authorization": basic("other", "another password")}
    assert (await web.call("GET", "/api/v1/queues", auth=False, headers=headers))[0] == 200


async def test_an_empty_password_never_lets_in(web: Site) -> None:
    web.server.configure(AuthTable(username=USER), "")
    headers = {"Authorization": basic(USER, "")}
    assert (await web.call("GET", "/api/v1/queues", auth=False, headers=headers))[0] == 401


async def test_after_five_failures_an_address_waits_even_with_the_right_password(web: Site) -> None:
    wrong = {"Authorization": basic(USER, "wrong")}
    found = [(await web.call("GET", "/api/v1/queues", auth=False, headers=wrong))[0] for _ in range(7)]
    assert found == [401] * 5 + [429] * 2
    status, body, headers = await web.call("GET", "/api/v1/queues")
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 12
    assert "too many failed logins" in body["detail"]
    assert (await web.call("GET", "/livez", auth=False))[0] == 200


async def test_a_valid_token_is_never_locked_out(store_url: str) -> None:
    async with site(store_url, auth={"tokens": {"shop": token_table("s3cret", "read")}}) as made:

        async def status(authorization: str) -> int:
            headers = {"Authorization": authorization}
            return (await made.call("GET", "/api/v1/queues", auth=False, headers=headers))[0]

        assert [await status(basic(USER, f"wrong {number}")) for number in range(7)] == [401] * 5 + [429] * 2
        assert await status("Bearer s3cret") == 200
        assert [await status(f"Bearer wrong {number}") for number in range(7)] == [401] * 5 + [429] * 2
        assert await status("Bearer s3cret") == 200
        assert await status(basic(USER, PASSWORD)) == 429


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic !!!", "Bearer", "Digest abc", ""])
async def test_what_is_no_password_does_not_lock_out_the_right_one(web: Site, header: str) -> None:
    for _ in range(7):
        status, _, _ = await web.call("GET", "/api/v1/queues", auth=False, headers={"Authorization": header})
        assert status in (401, 429)
    assert (await web.call("GET", "/api/v1/queues"))[0] == 200


async def test_being_held_back_is_logged_once(web: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(9):
        await web.call("GET", "/api/v1/queues", auth=False, headers={"Authorization": basic(USER, "wrong")})
    assert [record.message for record in caplog.records].count("auth.throttled") == 1
    assert "wrong" not in caplog.text
    text = await web.call("GET", "/metrics", auth=False)
    assert 'crmd_auth_refused_total{reason="wrong"} 5.0' in text[1]
    assert 'crmd_auth_refused_total{reason="throttled"} 4.0' in text[1]


async def test_behind_a_trusted_proxy_the_real_client_is_held_back(store_url: str) -> None:
    async with site(store_url, http={"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}) as made:

        async def status(password: str, forwarded: str) -> int:
            headers = {"Authorization": basic(USER, password), "X-Forwarded-For": forwarded}
            return (await made.call("GET", "/api/v1/queues", auth=False, headers=headers))[0]

        for number in range(6):  # a client may write what it likes in front
            await status("wrong", f"8.8.8.{number}, 203.0.113.9, 10.1.1.1")
        assert await status(PASSWORD, "1.1.1.1, 203.0.113.9") == 429
        assert await status(PASSWORD, "203.0.113.10") == 200


async def test_from_others_x_forwarded_for_is_not_believed(web: Site) -> None:
    for number in range(6):
        headers = {"Authorization": basic(USER, "wrong"), "X-Forwarded-For": f"203.0.113.{number}"}
        status, _, _ = await web.call("GET", "/api/v1/queues", auth=False, headers=headers)
    assert status == 429


def test_a_held_back_address_may_try_once_every_twelve_seconds() -> None:
    now = 0.0
    attempts = FailedAttempts(monotonic=lambda: now)
    assert [attempts.fail("a") for _ in range(FAILURES)] == [False] * 4 + [True]
    assert (attempts.blocked_seconds("a"), attempts.blocked_seconds("b")) == (12, 0)
    now = 12.0
    assert attempts.blocked_seconds("a") == 0
    attempts.fail("a")
    assert attempts.blocked_seconds("a") == 12
    now = 100.0
    assert [attempts.fail("a") for _ in range(FAILURES)] == [False] * 4 + [True]


def test_addresses_are_forgotten_in_the_end() -> None:
    attempts = FailedAttempts(monotonic=lambda: 0.0)
    for number in range(20_000):
        attempts.fail(str(number))
    assert len(attempts._buckets) == 10_000


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic YQ==",
        "Bearer",
        "Bearer  ",
        "Digest abc",
        "basic\x00",
        "Basic ü",
        "Token abc",
    ],
)
def test_malformed_credentials_are_none(header: str) -> None:
    assert parse_credentials(header) is None


@pytest.mark.parametrize(
    ("header", "user", "secret"),
    [
        (basic("a", "b:c"), "a", "b:c"),
        (basic("", ""), "", ""),
        (basic("ü", "é", "latin-1"), "ü", "é"),
        (basic("ü", "é"), "ü", "é"),
        ("bAsIc " + base64.b64encode(b"a:b").decode(), "a", "b"),
        ("BEARER  abc ", None, "abc"),
    ],
)
def test_credentials_are_read(header: str, user: str | None, secret: str) -> None:
    found = parse_credentials(header)
    assert found is not None
    assert (found.user, found.secret) == (user, secret)
    assert secret == "" or secret not in repr(found)


async def test_no_random_header_lets_in_or_breaks(web: Site) -> None:
    """A fuzz on a raw connection: what aiohttp's client would not send, too."""
    rng = random.Random(46)
    host, port = web.server.address
    seen: set[int] = set()
    for _ in range(300):
        web.server._auth._attempts._buckets.clear()
        web.server._auth._token_attempts._buckets.clear()
        seen.add(await raw_status(host, port, random_header(rng)))
    assert seen <= {400, 401}


async def test_right_and_wrong_users_take_the_same_time(web: Site) -> None:
    auth, request = web.server._auth, _NoRequest()
    times: dict[str, list[float]] = {USER: [], "nobody": []}
    for number in range(4000):
        user = (USER, "nobody")[number % 2]
        began = time.perf_counter()
        assert not await auth.check_credentials(user, "wrong", request)  # type: ignore[arg-type]
        times[user].append(time.perf_counter() - began)
    # The fastest tenth: what else the machine does slows the others.
    taken = [statistics.quantiles(seconds, n=10)[0] for seconds in times.values()]
    assert abs(taken[0] - taken[1]) < 0.25 * min(taken)


class _NoRequest:
    """Checking does not look at the request."""


def random_header(rng: random.Random) -> bytes:
    noise = bytes(rng.choice([*range(32, 127), *range(128, 256)]) for _ in range(rng.randrange(60)))
    scheme = rng.choice([b"Basic ", b"basic ", b"Bearer ", b"", b"Digest ", b"Basic\t", b"\xff "])
    value: Any = rng.choice([noise, base64.b64encode(noise), base64.b64encode(b"admin:" + noise), b"=" * 5, b":"])
    return bytes(scheme + value)


async def raw_status(host: str, port: int, authorization: bytes) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: ")
    writer.write(authorization + b"\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])
