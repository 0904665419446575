"""An authority of the tests' own, and a certificate for this machine that it signed."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Makes its files in a folder; `certificate` is what clients have to trust."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "authority.pem"
        self._key = folder / "key.pem"
        self._chain = folder / "server.pem"
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("openssl, which makes certificates, is not installed")
        request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=crmd-tests"
        usage = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
        authority_key = folder / "authority.key"
        _run(openssl, f"{request} {usage} -keyout {authority_key} -out {self.certificate}")
        request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
        names = "-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        signed = f"-CA {self.certificate} -CAkey {authority_key}"
        _run(openssl, f"{request} {names} {signed} -keyout {self._key} -out {self._chain}")

    def server(self) -> ssl.SSLContext:
        """What a server for `localhost` listens with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain, self._key)
        return context


def _run(openssl: str, arguments: str) -> None:
    subprocess.run([openssl, *arguments.split()], check=True, capture_output=True)
