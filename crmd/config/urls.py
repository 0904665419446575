"""URLs in the configuration: the store's, checked and masked, and those of outside services."""

from __future__ import annotations

import re
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from crmd.config.rules import Rule
from crmd.config.secret import Secret
from crmd.formatting import is_clean

STORE_SCHEMES = ("redis", "rediss", "unix")
STORE_OPTIONS = (
    "db",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
)
"""What may stand behind the `?`; anything else would reach the connection unchecked."""

DATABASE_SCHEMES = ("postgresql", "postgres", "sqlite")

MASK = "***"


class StoreUrl(Secret):
    """The address of a Redis or Valkey server; its credentials are never shown."""

    def describe(self) -> str:
        return "URL: redis://, rediss:// or unix://"

    def check(self, text: str) -> None:
        # Its list of hosts is no URL that could be read.
        if re.match(r"rediss?\+sentinel:", text):
            raise ValueError("Sentinel is not supported by this version")
        url = _split(text)
        if url.scheme not in STORE_SCHEMES:
            raise ValueError(f'scheme "{url.scheme}" is not supported; write redis://, rediss:// or unix://')
        if url.fragment or "#" in text:
            raise ValueError('has a "#"; write %23 where a password has one')
        _check_place(url)
        _check_options(url)

    def write(self, value: object) -> str:
        """The URL with its credentials masked."""
        return mask_url(self.read(value).get_secret_value())


class DatabaseUrl(Secret):
    """The address of the records' database; its credentials are never shown."""

    def describe(self) -> str:
        return "URL: postgresql:// or sqlite://"

    def check(self, text: str) -> None:
        scheme = _split(text).scheme
        if scheme not in DATABASE_SCHEMES:
            raise ValueError(f'scheme "{scheme}" is not supported; write postgresql:// or sqlite:///')

    def write(self, value: object) -> str:
        """The URL with its credentials masked."""
        return mask_url(self.read(value).get_secret_value())


class HttpUrl(Rule):
    """The base URL of an outside service, without a trailing slash."""

    def describe(self) -> str:
        return "URL: https:// or http://"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError('must be a URL such as "https://example.com", without credentials')
        return value.rstrip("/")


def mask_url(url: str) -> str:
    """A URL with its password masked, safe to show and to log.

    A user without a password is masked too: people put the password there.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    # A raw "/", "?" or "#" in a password ends the network part early and leaves an "@" behind it.
    if not parts.scheme or "@" in parts.path + parts.query or parts.fragment:
        return MASK
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    credentials = f"{name}:{MASK}@" if colon else f"{MASK}{at}" if at else ""
    options = [(key, MASK if _is_secret(key) else value) for key, value in parse_qsl(parts.query)]
    query = f"?{urlencode(options, safe='*/')}" if options else ""
    return f"{parts.scheme}://{credentials}{place}{parts.path}{query}"


def _is_secret(option: str) -> bool:
    return option.lower() in ("password", "username", "user", "pass", "token")


def _split(text: str) -> SplitResult:
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
        if option not in STORE_OPTIONS:
            close = get_close_matches(option, STORE_OPTIONS, 1)
            hint = f'; did you mean "{close[0]}"?' if close else f"; possible are {', '.join(STORE_OPTIONS)}"
            raise ValueError(f'option "{option}" is not supported{hint}')
        if option == "db" and not re.fullmatch(r"\d{1,9}", value, re.ASCII):
            raise ValueError("option db must be a number")
        if option.startswith("ssl_") and url.scheme != "rediss":
            raise ValueError(f"option {option} needs rediss://")
