"""Which file is read, and what is said about one that cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crmd.errors import ConfigError
from tests.support.config import ConfigBench


def _port(port: int) -> str:
    return f"[http]\nport = {port}\n"


def test_files_are_looked_for_in_order(config: ConfigBench) -> None:
    config.write(_port(1), "etc/config.toml")
    assert config.load().settings.http.port == 1

    config.write(_port(2), "config.toml")
    assert config.load().settings.http.port == 2

    config.write(_port(3), "env.toml")
    assert config.load(environ={"CRMD_CONFIG": "env.toml"}).settings.http.port == 3

    option = config.write(_port(4), "option.toml")
    loaded = config.load(path=option, environ={"CRMD_CONFIG": "env.toml"})
    assert loaded.settings.http.port == 4
    assert loaded.path == option


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_local_file_that_others_may_write_is_passed_over(config: ConfigBench, mode: int) -> None:
    config.write(_port(1), "etc/config.toml")
    config.write(_port(2), mode=mode)

    loaded = config.load()

    assert loaded.settings.http.port == 1
    assert loaded.warnings == [
        f"{config.file}: not read: other users can write it; name it with --config if it is yours"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_local_file_of_another_user_is_passed_over(config: ConfigBench) -> None:
    config.write(_port(2))
    os.chown(config.file, 12345, -1)

    loaded = config.load()

    assert loaded.path is None
    assert loaded.warnings == [
        f"{config.file}: not read: it belongs to another user; name it with --config if it is yours"
    ]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_named_file_that_others_may_write_is_read_and_warned_about(config: ConfigBench, mode: int) -> None:
    path = config.write(_port(2), "named.toml", mode=mode)

    for loaded in (config.load(path=path), config.load(environ={"CRMD_CONFIG": "named.toml"})):
        assert loaded.settings.http.port == 2
        [warning] = loaded.warnings
        assert warning == (
            f"{path}: other users can write it, and so decide what crmd runs; run: chmod go-w {path}"
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_named_file_of_another_user_is_read_and_warned_about(config: ConfigBench) -> None:
    path = config.write(_port(2), "named.toml")
    os.chown(path, 12345, -1)

    [warning] = config.load(path=path).warnings

    assert warning == f"{path}: it belongs to another user, who can change what crmd runs; run: chown 0 {path}"


def test_a_local_file_that_hides_the_systems_is_named(config: ConfigBench) -> None:
    config.write(_port(1), "etc/config.toml")
    config.write(_port(2))

    loaded = config.load()

    assert loaded.settings.http.port == 2
    assert loaded.warnings == [
        f"{config.file} is read, and {config.system_file} is not; name the one you mean with --config"
    ]
    assert config.load(path=config.file).warnings == []


def test_a_named_file_that_is_missing_is_a_mistake(config: ConfigBench) -> None:
    missing = config.folder / "missing.toml"

    for problems in (config.problems(path=missing), config.problems(environ={"CRMD_CONFIG": "missing.toml"})):
        assert [str(problem) for problem in problems] == [f"{missing}: cannot be read: No such file or directory"]


def test_a_folder_is_no_file(config: ConfigBench) -> None:
    (problem,) = config.problems(path=config.folder)

    assert problem.reason == "cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[http]\nport = = 1", "line 2, column 8: Invalid value"),
        ("a = 1\na = 2", "line 2, column 6: Cannot overwrite a value"),
        ("[http]\n[http]", "line 2, column 6: Cannot declare ('http',) twice"),
        ("[http]\nport = 01", "line 2, column 9: Expected newline or end of document after a statement"),
        ('[http]\nhost = "127.0.0.1', "line 2, column 18: Unterminated string"),
    ],
)
def test_a_syntax_error_has_its_line_and_column(config: ConfigBench, text: str, reason: str) -> None:
    assert [str(problem) for problem in config.problems(text)] == [f"{config.file}: {reason}"]


def test_a_file_that_is_not_utf_8_is_a_mistake(config: ConfigBench) -> None:
    config.file.write_bytes(b"[http]\nhost = '\xff'")

    assert [problem.reason for problem in config.problems()] == ["line 2: is not UTF-8 text"]


def test_a_byte_order_mark_is_no_mistake(config: ConfigBench) -> None:
    config.file.write_bytes(b"\xef\xbb\xbf[http]\nport = 5")

    assert config.load().settings.http.port == 5


def test_a_readable_file_with_secrets_is_warned_about(config: ConfigBench) -> None:
    config.write("[whatsapp]\ntoken = 'abc'", mode=0o644)
    assert config.load().warnings == [
        f"{config.file}: has secrets and is readable by every user; run: chmod 600 {config.file}"
    ]

    config.write("[auth]\npassword = ''", mode=0o644)
    assert config.load().warnings == []


def test_a_file_nested_without_end_is_a_mistake(config: ConfigBench, tmp_path: Path) -> None:
    config.write("a = " + "[" * 100_000)

    with pytest.raises(ConfigError) as caught:
        config.load()

    assert [problem.source for problem in caught.value.problems] == [str(config.file)]
