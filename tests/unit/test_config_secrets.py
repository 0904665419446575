"""Secrets: files that hold them, and that they are never shown."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.config.render import render_effective
from crmd.config.values import check_password
from crmd.formatting import mask_url
from tests.support.config import ConfigBench

LONG = "a-long-password"


def test_a_secret_may_stand_in_a_file(config: ConfigBench) -> None:
    path = config.write(f"{LONG}\n", "secrets/password")

    loaded = config.load("[auth]\npassword_file = 'secrets/password'")

    assert loaded.settings.auth.password.get_secret_value() == LONG
    assert loaded.sources["auth.password"] == f"{config.file}, from {path}"
    assert "auth.password_file" not in loaded.sources


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("auth__password", LONG),
        ("redis__url", "redis://:p@h:6379/1"),
        ("whatsapp__token", "token"),
        ("whatsapp__app_secret", "secret"),
        ("whatsapp__verify_token", "verify"),
        ("webhook__secret", "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="),
    ],
)
def test_every_secret_may_stand_in_a_file_that_a_variable_names(config: ConfigBench, key: str, text: str) -> None:
    config.write(f"{text}\r\n", "it")

    settings = config.load(environ={f"CRMD_{key.upper()}_FILE": "it"}).settings

    table, name = key.split("__")
    assert getattr(getattr(settings, table), name).get_secret_value() == text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_secret_file_that_is_open_to_others_is_refused(config: ConfigBench, mode: int) -> None:
    path = config.write(LONG, "password", mode=mode)

    (problem,) = config.problems("[auth]\npassword_file = 'password'")

    assert str(problem) == (
        f"{config.file}: auth.password_file: {path} is open to other users; run: chmod 600 {path}"
    )


def test_systemds_credentials_may_be_open_to_a_group(config: ConfigBench) -> None:
    path = config.write("a-long+password0", "cred/auth_password", mode=0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(path.parent)}

    assert _password(config, "", environ) == "a-long+password0"
    token = config.load(f"[whatsapp]\ntoken_file = '{path}'", environ=environ).settings.whatsapp.token
    assert token.get_secret_value() == "a-long+password0"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * 70_000, "is larger than 65536 bytes; it cannot be a secret"),
    ],
)
def test_what_a_secret_file_may_not_be(config: ConfigBench, content: bytes, reason: str) -> None:
    path = config.write("", "password")
    path.write_bytes(content)

    (problem,) = config.problems("[auth]\npassword_file = 'password'")

    assert problem.reason == f"{path} {reason}"


def test_a_secret_file_must_be_there_and_regular(config: ConfigBench) -> None:
    os.mkfifo(config.folder / "pipe", 0o600)
    text = """
        [auth]
        password_file = "missing"
        [whatsapp]
        token_file = "pipe"
        app_secret_file = 5
        verify_token_file = ""
    """

    assert [(problem.key, problem.reason) for problem in config.problems(text)] == [
        ("auth.password_file", f"{config.folder}/missing cannot be read: No such file or directory"),
        ("whatsapp.token_file", f"{config.folder}/pipe is not a regular file"),
        ("whatsapp.app_secret_file", "must be a path in quotes"),
    ]


def test_a_secret_given_twice_in_one_place_is_a_mistake(config: ConfigBench) -> None:
    config.write(LONG, "password")

    (problem,) = config.problems(f"[auth]\npassword = '{LONG}'\npassword_file = 'password'")
    assert str(problem) == (
        f"{config.file}: auth.password: is given beside auth.password_file; give only one of the two"
    )

    environ = {"CRMD_AUTH__PASSWORD": LONG, "CRMD_AUTH__PASSWORD_FILE": "password"}
    assert [problem.key for problem in config.problems("", environ=environ)] == ["auth.password"]


def test_a_secret_of_a_higher_place_covers_both_forms_below(config: ConfigBench) -> None:
    config.write("from-the-file", "password")
    assert _password(config, "[auth]\npassword_file = 'missing'", {"CRMD_AUTH__PASSWORD": LONG}) == LONG
    assert (
        _password(config, f"[auth]\npassword = '{LONG}'", {"CRMD_AUTH__PASSWORD_FILE": "password"})
        == "from-the-file"
    )
    assert (
        _password(config, "[auth]\npassword_file = 'password'", {"BULL_BOARD_PASSWORD": LONG}) == "from-the-file"
    )


@pytest.mark.parametrize(
    ("text", "reason"), [("admin123", "well-known default"), ("1234567", "shorter than 8"), ("", "shorter than 8")]
)
def test_passwords_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_password(text)


def test_eight_characters_are_a_password() -> None:
    check_password("12345678")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("", ""),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:secret@host", "rediss://user:***@host"),
        ("redis://secret@host", "redis://***@host"),
        ("redis://:a@secret@host", "redis://:***@host"),
        ("redis://:a@x/secret@host", "***"),
        ("redis://:se/cret@host", "***"),
        ("redis://:se#cret@host", "***"),
        ("redis://[secret", "***"),
        ("secret", "***"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("unix://:secret@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis+sentinel://:secret@h1:1,h2:2/m/0", "redis+sentinel://:***@h1:1,h2:2/m/0"),
    ],
)
def test_urls_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@given(st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1))
def test_no_password_survives_masking(password: str) -> None:
    marked = f"S3CR3T{password}T3RC3S"

    assert "S3CR3T" not in mask_url(f"redis://user:{marked}@host:6379/0")
    assert "T3RC3S" not in mask_url(f"redis://user:{marked}@host:6379/0")


def test_the_effective_configuration_masks_secrets_and_names_sources(config: ConfigBench) -> None:
    text = f"""
        [redis]
        url = "redis://:{LONG}@host:6379/0"
        [auth]
        password = "{LONG}"
        [auth.tokens.shop]
        sha256 = "{"ab" * 32}"
        scopes = ["read"]
        [queues.message]
        attempts = 4
        [queues.sms]
        handlers = ["my.sms"]
        [defaults]
        attempts = 9
        [whatsapp]
        token = "{LONG}"
        [webhook]
        secret = "whsec_{"c2VjcmV0" * 4}"
    """

    loaded = config.load(text, environ={"CRMD_HTTP__PORT": "none"})
    rows = {row.key: (row.value, row.source) for row in render_effective(loaded)}

    file = str(config.file)
    assert rows["redis.url"] == ('"redis://:***@host:6379/0"', file)
    assert rows["auth.password"] == ('"**********"', file)
    assert rows["auth.tokens.shop.scopes"] == ('["read"]', file)
    assert rows["http.port"] == ('"none"', "environment CRMD_HTTP__PORT")
    assert rows["defaults.attempts"] == ("9", file)
    assert rows["queues.message.attempts"] == ("4", file)
    assert rows["queues.email.attempts"] == ("5", "shipped with the queue")
    assert rows["queues.sms.handlers"] == ('["my.sms"]', file)
    assert rows["whatsapp.verify_token"] == ('""', "default")
    assert "queues.flow.attempts" not in rows
    assert LONG not in str(rows)
    assert "c2VjcmV0" not in str(rows)
    assert LONG not in repr(loaded)


def _password(config: ConfigBench, text: str, environ: dict[str, str]) -> str:
    return config.load(text, environ=environ).settings.auth.password.get_secret_value()
