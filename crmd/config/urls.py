"""URLs in the configuration: the store's, checked and masked, and those of outside services."""

from __future__ import annotations

import re

from crmd.config.rules import Rule
from crmd.config.secret import Secret
from crmd.engine.store.address import check_store_url, split_url
from crmd.formatting import mask_url

DATABASE_SCHEMES = ("postgresql", "postgres", "sqlite")


class StoreUrl(Secret):
    """The address of a Redis or Valkey server; its credentials are never shown."""

    def describe(self) -> str:
        return "URL: redis://, rediss:// or unix://"

    def check(self, text: str) -> None:
        check_store_url(text)

    def write(self, value: object) -> str:
        """The URL with its credentials masked."""
        return mask_url(self.read(value).get_secret_value())


class DatabaseUrl(Secret):
    """The address of the records' database; its credentials are never shown."""

    def describe(self) -> str:
        return "URL: postgresql:// or sqlite://"

    def check(self, text: str) -> None:
        scheme = split_url(text).scheme
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
