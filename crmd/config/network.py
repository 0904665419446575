"""Addresses, ports, networks and paths of the HTTP side."""

from __future__ import annotations

import ipaddress
import re

from crmd.config.rules import Rule, whole_from_text
from crmd.formatting import show

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT_MAX = 65535

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class Host(Rule):
    """An IP address or a host name, without a port."""

    def describe(self) -> str:
        return "host name or IP address"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not _is_host(value):
            raise ValueError(f'must be a host name or an IP address such as "127.0.0.1", not {show(value)}')
        return value.lower()


class Port(Rule):
    """A TCP port, 0 for any free one, or `"none"`, which is None."""

    def describe(self) -> str:
        return f'whole number, 0 to {PORT_MAX}, or "none"'

    def read(self, value: object) -> int | None:
        if value == "none":
            return None
        if type(value) is not int or not 0 <= value <= PORT_MAX:
            raise ValueError(
                f'must be a port from 1 to {PORT_MAX}, 0 for any free one, or "none", not {show(value)}'
            )
        return value

    def write(self, value: int | None) -> object:
        return "none" if value is None else value

    def from_text(self, text: str) -> object:
        return whole_from_text(text)


class Listen(Rule):
    """A TCP address with its port; empty for none."""

    def describe(self) -> str:
        return "address:port"

    def read(self, value: object) -> str:
        if value == "":
            return ""
        match = (
            re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})", value, re.ASCII)
            if isinstance(value, str)
            else None
        )
        if not match or not _is_host(match[1] or match[2]) or not 1 <= int(match[3]) <= PORT_MAX:
            raise ValueError(f'must be an address and a port such as "127.0.0.1:6380", not {show(value)}')
        return match[0]


class NetworkRule(Rule):
    """A network such as `"10.0.0.0/8"`; an address alone is a network of one."""

    def describe(self) -> str:
        return "network"

    def read(self, value: object) -> Network:
        if isinstance(value, Network):
            return value
        try:
            if not isinstance(value, str):
                raise ValueError
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f'must be a network such as "10.0.0.0/8", not {show(value)}') from None
        if ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
            raise ValueError(f'{show(value)} is an address inside a network; write "{network}"')
        return network

    def write(self, value: Network) -> str:
        return str(value)


class BasePath(Rule):
    """The path below which everything is served: `""` or `"/x"`, without a trailing slash."""

    def describe(self) -> str:
        return "path"

    def read(self, value: object) -> str:
        segments = value.strip("/").split("/") if isinstance(value, str) else []
        if segments == [""]:
            return ""
        if not segments or any(not _SEGMENT.fullmatch(part) or part in (".", "..") for part in segments):
            raise ValueError(f'must be a path such as "/jobs", not {show(value)}')
        return "/" + "/".join(segments)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on that host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "localhost.")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # A name of digits and dots only is a mistyped address.
        return bool(_HOST_NAME.fullmatch(text)) and not re.fullmatch(r"[\d.]+", text)
    return True
