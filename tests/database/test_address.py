"""Reading `database.url`."""

from __future__ import annotations

from pathlib import Path

import pytest

from crmd.crm.database.address import POSTGRESQL, SQLITE, Address

FOLDER = Path("/var/lib/crmd")
SECRET = "postgresql://crm:s%2Fecret@db.example:5433/crm?sslmode=require"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/var/lib/crmd/records.sqlite"),
        ("sqlite:////srv/crm/own.db", "/srv/crm/own.db"),
        ("sqlite:///own.db", "own.db"),
    ],
)
def test_sqlite_files(url: str, path: str) -> None:
    address = Address.parse(url, FOLDER)
    assert (address.kind, str(address.path), address.masked) == (SQLITE, path, path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite://host/file.db", "sqlite:///a.db?mode=ro"]
)
def test_what_is_no_sqlite_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no file|takes no options"):
        Address.parse(url, FOLDER)


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        (SECRET, SECRET),
        ("postgres://crm@/crm?host=%2Frun%2Fpostgresql", "postgresql://crm@/crm?host=%2Frun%2Fpostgresql"),
        # as services give them out, with what our driver does not have
        ("postgres://u:p@h/d?sslmode=require&channel_binding=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u@h1,h2/d?target_session_attrs=read-write", None),
        (f"postgresql://u@h/d?sslmode=verify-full&sslrootcert={__file__}&application_name=crm", None),
    ],
)
def test_postgresql(url: str, dsn: str | None) -> None:
    address = Address.parse(url, FOLDER)
    assert (address.kind, address.path) == (POSTGRESQL, None)
    if dsn:
        assert address.dsn == dsn


def test_an_option_that_the_driver_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"option pgbouncer is not known; take it out, or write one of .*sslmode"):
        Address.parse("postgresql://u@h/d?pgbouncer=true", FOLDER)


def test_a_certificate_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sslrootcert: there is no file .*absent\.crt"):
        Address.parse(f"postgresql://u@h/d?sslmode=verify-full&sslrootcert={tmp_path}/absent.crt", FOLDER)


def test_the_password_is_never_shown() -> None:
    address = Address.parse(SECRET, FOLDER)
    assert "ecret" not in address.masked + repr(address)


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'crmd\[postgres\]'"):
        Address.parse(SECRET, FOLDER)
