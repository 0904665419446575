"""The address of the store, and what its URL may contain."""

from __future__ import annotations

import re
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qsl, urlsplit

from crmd.formatting import is_clean

SCHEMES = ("redis", "rediss", "unix")
OPTIONS = (
    "db",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
"""What may stand behind the `?`; anything else would reach the connection unchecked."""


def check_store_url(text: str) -> None:
    """Raises ValueError that says what is wrong with a store's URL, without showing its credentials."""
    # A list of hosts cannot be split as a URL.
    if several := re.match(r"rediss?\+(sentinel|cluster):", text):
        raise ValueError(f"{several[1].capitalize()} is not supported by this version")
    url = split_url(text)
    if url.scheme not in SCHEMES:
        raise ValueError(f'scheme "{url.scheme}" is not supported; write redis://, rediss:// or unix://')
    if url.fragment or "#" in text:
        raise ValueError('has a "#"; write %23 where a password has one')
    _check_place(url)
    _check_options(url)


def split_url(text: str) -> SplitResult:
    """The parts of a URL; raises ValueError that says what is wrong, without showing its credentials."""
    if "://" not in text:
        raise ValueError("is not a URL; write it like redis://localhost:6379/0")
    if not is_clean(text) or " " in text:
        raise ValueError("has spaces or control characters")
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        # The library's message would show a part of the password.
        raise ValueError(
            "cannot be read; write / ? # [ ] @ : in a password as %2F %3F %23 %5B %5D %40 %3A"
        ) from None
    return url


def _check_place(url: SplitResult) -> None:
    if url.scheme == "unix":
        if not url.path.strip("/"):
            raise ValueError("names no socket; write it like unix:///run/redis/redis.sock")
        if url.hostname:
            raise ValueError(
                "has a host, and a socket is a path: write three slashes, like unix:///run/redis/redis.sock"
            )
        return
    if not url.hostname:
        raise ValueError(f"names no host; write it like {url.scheme}://localhost:6379/0")
    if url.port == 0:
        raise ValueError("port must be from 1 to 65535, not 0")
    if not re.fullmatch(r"(/\d{0,9})?", url.path, re.ASCII):
        raise ValueError("must end in the number of a database, such as /0, or in nothing")


def _check_options(url: SplitResult) -> None:
    for option, value in parse_qsl(url.query, keep_blank_values=True):
        if option not in OPTIONS:
            close = get_close_matches(option, OPTIONS, 1)
            hint = f'; did you mean "{close[0]}"?' if close else f"; possible are {', '.join(OPTIONS)}"
            raise ValueError(f'option "{option}" is not supported{hint}')
        if option == "db" and not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            raise ValueError("option db must be a number")
        if option.startswith("ssl_") and url.scheme != "rediss":
            raise ValueError(f"option {option} needs rediss://")
