"""Secrets: their rules, and the files that may hold them."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from pydantic import SecretStr

from crmd.config.rules import Rule
from crmd.formatting import is_clean

PASSWORD_MIN_CHARACTERS = 8

SECRET_FILE_MAX_BYTES = 64 * 1024
"""More than any secret has; keeps a mistaken path such as a log from being read whole."""

FILE_SUFFIX = "_file"
"""Secret `X` may be given as `X_file`, a path."""

WEBHOOK_PREFIX = "whsec_"

_DEFAULT_OF_THE_REPLACED_SYSTEM = "admin123"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Secret(Rule):
    """Text that is never shown."""

    def describe(self) -> str:
        return "secret text"

    def read(self, value: object) -> SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            raise ValueError("must be text in quotes")
        if not is_clean(text):
            raise ValueError("has control characters or is not UTF-8")
        if text:
            self.check(text)
        return SecretStr(text)

    def check(self, text: str) -> None:
        """Raises ValueError that says what is wrong with a secret, without showing it."""

    def write(self, value: SecretStr) -> str:
        """Stars, as many for each secret; empty where none is set."""
        return str(value)


class ServiceUrl(Secret):
    """The address of a service with its credentials inside, as Apprise writes it."""

    def check(self, text: str) -> None:
        scheme, separator, rest = text.partition("://")
        if not (separator and rest and scheme.replace("+", "").isalnum()):
            raise ValueError('must be an Apprise URL such as "slack://…"; https://appriseit.com lists them')


class Password(Secret):
    """A password that a person chose."""

    def check(self, text: str) -> None:
        check_password(text)


class WebhookSecret(Secret):
    """A signing secret in the form of Standard Webhooks."""

    def check(self, text: str) -> None:
        digits = text.removeprefix(WEBHOOK_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise ValueError(f'must be "{WEBHOOK_PREFIX}" and base64; make one with: openssl rand -base64 32')


def check_password(text: str) -> None:
    """Raises ValueError that says why a password is refused."""
    if len(text) < PASSWORD_MIN_CHARACTERS:
        raise ValueError(f"is shorter than {PASSWORD_MIN_CHARACTERS} characters")
    if text == _DEFAULT_OF_THE_REPLACED_SYSTEM:
        raise ValueError("is the well-known default of the replaced system; choose another one")


def read_secret_file(path: Path, credentials_directory: Path | None = None) -> str:
    """A secret's text without its trailing newline; raises ValueError that says what is wrong with the file.

    The file must be its owner's only, except under `credentials_directory`, which systemd guards by other means.
    """
    data, mode = _read_regular_file(path)
    guarded = credentials_directory is not None and path.is_relative_to(credentials_directory)
    if mode & _OTHERS and not guarded:
        raise ValueError(f"{path} is open to other users; run: chmod 600 {path}")
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _read_regular_file(path: Path) -> tuple[bytes, int]:
    try:
        # Non-blocking, because opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path} cannot be read: {reason}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(SECRET_FILE_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > SECRET_FILE_MAX_BYTES:
        raise ValueError(f"{path} is larger than {SECRET_FILE_MAX_BYTES} bytes; it cannot be a secret")
    return data, mode
