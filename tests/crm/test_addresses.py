"""Which addresses webhooks may go to, whatever way they are written or found."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from yarl import URL

from crmd.crm.outbound.addresses import AddressPolicy, AddressRefused
from crmd.crm.outbound.http import NotSent
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.webhooks.jobs import DeliverWebhook, deliver_webhook
from crmd.errors import Permanent, Retry
from tests.support.context import make_context
from tests.support.services import SECRET, Receiver
from tests.support.started import started

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "100::1",
    "64:ff9b:1::1",
]
CARRIERS = ["::ffff:{}", "::ffff:0:{}", "64:ff9b::{}", "::{}"]


class FixedResolver(AbstractResolver):
    """Answers each question with the next list of addresses; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        """Nothing to close."""


def client(
    allow_private: Sequence[str] = (), resolver: AbstractResolver | None = None
) -> AbstractAsyncContextManager[WebhookClient]:
    return started(WebhookClient(secret=SecretStr(SECRET), allow_private=allow_private, resolver=resolver))


async def deliver(webhooks: WebhookClient, url: str) -> Any:
    context = make_context(webhooks, queue="webhook", name="deliver_webhook")
    return await deliver_webhook(context, DeliverWebhook(url=url, event="contact.created", data=None))


@pytest.mark.parametrize("address", INSIDE)
def test_inner_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match=r"webhook\.allow_private"):
        AddressPolicy().check(address)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1"])
def test_inner_addresses_inside_ipv6_ones_are_refused(carrier: str, address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy().check(carrier.format(address))


@pytest.mark.parametrize("address", ["2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::1"])
def test_inner_addresses_behind_6to4_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy().check(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_public_addresses_pass(address: str) -> None:
    AddressPolicy().check(address)


@pytest.mark.parametrize("text", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost", "", "1.1.1.1."])
def test_what_is_not_a_plain_address_is_refused(text: str) -> None:
    with pytest.raises(AddressRefused, match="not a plain IP address"):
        AddressPolicy(["0.0.0.0/0", "::/0"]).check(text)


def test_allowed_networks_pass_in_any_form() -> None:
    policy = AddressPolicy([ip_network("10.0.0.0/8"), "fd00::/8"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1"):
        policy.check(address)
    for address in ("192.168.0.1", "127.0.0.1", "::1", "fe80::1"):
        with pytest.raises(AddressRefused):
            policy.check(address)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_passes_that_python_calls_not_global(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        with pytest.raises(AddressRefused):
            AddressPolicy().check(str(address))


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_passes_that_python_calls_private(address: IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_link_local or address.is_site_local:
        if address.sixtofour or address.ipv4_mapped or address in ip_network("64:ff9b::/96"):
            return  # decided by the IPv4 address inside
        with pytest.raises(AddressRefused):
            AddressPolicy().check(str(address))


# Through the whole client: nothing arrives


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127。0。0。1",  # other full stops, which host names map to dots
        "１２７.0.0.1",  # noqa: RUF001 - other digits
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "0.0.0.0",
        "0",
    ],
)
async def test_no_spelling_of_the_loopback_address_gets_through(receiver: Receiver, host: str) -> None:
    async with client() as webhooks:
        with pytest.raises(Permanent):
            await deliver(webhooks, f"http://{host}:{receiver.port}/hooks")
    assert receiver.received == []


async def test_the_socket_check_alone_refuses_addresses_that_no_resolver_saw(receiver: Receiver) -> None:
    async with client() as webhooks:
        exchange = await webhooks.post(
            URL(f"http://127.0.0.1:{receiver.port}/hooks"),
            message_id="m",
            body="{}",
            headers={},
            timeout_seconds=5,
        )
    assert isinstance(exchange, NotSent)
    assert exchange.forbidden
    assert receiver.received == []


async def test_a_name_with_an_inner_address_is_refused_with_both_named() -> None:
    async with client(resolver=FixedResolver(["192.168.7.7"])) as webhooks:
        with pytest.raises(
            Permanent, match=r"hooks\.example has the address 192\.168\.7\.7.*webhook\.allow_private"
        ):
            await deliver(webhooks, "http://hooks.example/")


async def test_one_inner_address_among_others_refuses_the_name() -> None:
    async with client(["127.0.0.1/32"], FixedResolver(["127.0.0.1", "10.0.0.1"])) as webhooks:
        with pytest.raises(Permanent):
            await deliver(webhooks, "http://hooks.example/")


async def test_a_name_is_checked_again_for_each_connection_and_used_as_checked(receiver: Receiver) -> None:
    # the second answer is what a rebinding attacker would give after the check
    resolver = FixedResolver(["127.0.0.1"], ["127.0.0.2"])
    url = f"http://hooks.example:{receiver.port}/hooks"
    async with client(["127.0.0.1/32"], resolver) as webhooks:
        await deliver(webhooks, url)
        assert len(resolver.answers) == 1, "one question for check and connection together"
    async with client(["127.0.0.1/32"], resolver) as webhooks:
        with pytest.raises(Permanent, match=r"127\.0\.0\.2"):
            await deliver(webhooks, url)
    assert len(receiver.received) == 1


async def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    async with client() as webhooks:
        with pytest.raises(Retry):
            await deliver(webhooks, "http://nowhere.invalid/")


async def test_a_redirect_inside_is_not_followed(receiver: Receiver) -> None:
    async with started(Receiver()) as inside:
        receiver.then(302, headers={"Location": f"http://127.0.0.1:{inside.port}/secret"})
        async with client(["127.0.0.1/32"]) as webhooks:
            with pytest.raises(Permanent, match=r"redirect to .*/secret"):
                await deliver(webhooks, receiver.url)
    assert inside.received == []
