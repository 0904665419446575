"""Cross-site requests and foreign Host names."""

from __future__ import annotations

import itertools

import pytest

from crmd.http.guard import HostCheck
from tests.support.http import Site, site

SITES = (None, "same-origin", "none", "same-site", "cross-site", "nonsense")
ORIGINS = (None, "own", "http://evil.example", "null")
TYPES = (None, "application/json", "text/plain", "application/x-www-form-urlencoded")
PAUSE = "/api/v1/queues/message/pause"


@pytest.mark.parametrize(("fetch_site", "origin"), list(itertools.product(SITES, ORIGINS)))
async def test_only_our_own_pages_and_programs_change_anything(
    web: Site, fetch_site: str | None, origin: str | None
) -> None:
    """All content types at once, with a body and a path that takes one."""
    own = web.url if origin == "own" else origin
    trusted = fetch_site in ("same-origin", "none") or (fetch_site is None and origin in (None, "own"))
    for kind in TYPES:
        headers = {"Sec-Fetch-Site": fetch_site, "Origin": own, "Content-Type": kind}
        sent = {name: value for name, value in headers.items() if value is not None}
        skipped = () if kind else ("Content-Type",)
        status, body, _ = await web.call("POST", PAUSE, headers=sent, data=b"{}", skip_auto_headers=skipped)
        expected = 403 if not trusted else 200 if kind == "application/json" else 415
        assert status == expected, (sent, body)
        assert (await web.call("GET", "/api/v1/queues/message", headers=sent))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_no_unsafe_method_passes_from_another_site(web: Site, method: str) -> None:
    await web.expect(403, method, f"{PAUSE}", headers={"Sec-Fetch-Site": "cross-site"})


async def test_a_post_without_body_needs_no_content_type(web: Site) -> None:
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Length": "0"}):
        assert (await web.call("POST", PAUSE, headers=headers))[0] == 200


async def test_content_type_may_have_a_charset(web: Site) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await web.call("POST", PAUSE, headers=headers, data=b'{"reason": "x"}'))[0] == 200


async def test_a_refusal_of_a_content_type_says_what_to_send(web: Site) -> None:
    assert (
        await web.problem(415, "POST", PAUSE, headers={"Content-Type": "text/plain"}, data=b"{}")
        == "the body has to be JSON: send Content-Type: application/json"
    )


async def test_behind_a_trusted_proxy_the_outer_host_counts(store_url: str) -> None:
    headers = {"Origin": "https://crm.example", "X-Forwarded-Host": "crm.example"}
    async with site(store_url, http={"trusted_proxies": ["127.0.0.1/32"]}) as proxied:
        assert (await proxied.call("POST", PAUSE, headers=headers))[0] == 200
    async with site(store_url) as direct:
        assert (await direct.call("POST", PAUSE, headers=headers))[0] == 403


@pytest.mark.parametrize(
    ("listening", "extra", "allowed", "refused"),
    [
        (
            "127.0.0.1",
            (),
            ["localhost:8080", "127.0.0.1", "127.0.0.2:1", "[::1]:8080", "LOCALHOST"],
            ["crm.example"],
        ),
        ("127.0.0.1", ("crm.example",), ["crm.example:443", "crm.example.", "localhost"], ["x.crm.example"]),
        ("0.0.0.0", (), ["10.1.2.3:8080", "[2001:db8::1]", "localhost"], ["crm.example", "10.1.2.3.nip.io"]),
        ("10.1.2.3", (), ["10.1.2.3:80", "localhost"], ["10.1.2.4", "crm.example", ""]),
        ("crm.example", (), ["crm.example", "localhost"], ["127.0.0.1.nip.io", "evil.example"]),
        ("::", (), ["[::1]:80", "192.0.2.1"], ["evil.example"]),
    ],
)
def test_which_hosts_are_ours(
    listening: str, extra: tuple[str, ...], allowed: list[str], refused: list[str]
) -> None:
    hosts = HostCheck(listening, extra)
    assert [host for host in allowed if not hosts.allows(host)] == []
    assert [host for host in refused if hosts.allows(host)] == []


async def test_a_rebound_name_is_refused_with_advice(web: Site) -> None:
    for path in ("/api/v1/queues", "/metrics", "/admin/queues"):
        assert "http.allowed_hosts" in await web.problem(421, "GET", path, headers={"Host": "rebound.example"})


async def test_a_method_that_a_path_does_not_have_is_405_whatever_the_body(web: Site) -> None:
    for data in (b"\x89PNG", b"{}", b""):
        headers = {"Content-Type": "application/octet-stream"} if data else {}
        status, _, answered = await web.call("PUT", "/api/v1/queues", data=data, headers=headers)
        assert (status, answered["Allow"]) == (405, "GET,HEAD")
