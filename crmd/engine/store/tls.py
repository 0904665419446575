"""The files that a rediss:// URL names, read before the first connection: no waiting brings a missing one."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crmd.errors import StoreUnusable


def check_tls_files(options: Mapping[str, Any], where: str) -> None:
    """Raises StoreUnusable that names the option and the file that cannot be used.

    `options` are those of the connection, such as `ssl_ca_certs`; `where` is the store's address to show.
    """
    for option in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if path := options.get(option):
            try:
                _use(option, path, options)
            except ssl.SSLError as error:
                reason = f"is not what it should be ({error.reason or error})"
                raise _unusable(where, option, path, reason) from None
            except OSError as error:
                raise _unusable(where, option, path, f"cannot be read: {error.strerror}") from None


def _use(option: str, path: str, options: Mapping[str, Any]) -> None:
    if option == "ssl_ca_path":
        os.listdir(path)
        return
    with Path(path).open("rb") as file:
        file.read(1)
    context = ssl.create_default_context()
    if option == "ssl_ca_certs":
        context.load_verify_locations(cafile=path)
    elif option == "ssl_keyfile" and (certificate := options.get("ssl_certfile")):
        context.load_cert_chain(certificate, path, lambda: str(options.get("ssl_password") or ""))


def _unusable(where: str, option: str, path: str, reason: str) -> StoreUnusable:
    return StoreUnusable(f"{where}: {option}: {path} {reason}; correct the file, or the path in the store's URL")
