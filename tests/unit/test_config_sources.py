"""Where values come from, and which place wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crmd.config.files import default_state_dir
from tests.support.config import ConfigBench

LONG = "a-long-password"


def test_without_anything_the_defaults_hold(config: ConfigBench) -> None:
    loaded = config.load()

    assert loaded.path is None
    assert loaded.warnings == []
    assert loaded.settings.http.port == 8080
    assert loaded.settings.redis.url.get_secret_value() == ""
    assert loaded.sources["http.port"] == "default"


def test_each_place_wins_over_those_below_it(config: ConfigBench) -> None:
    credentials = config.write("from-credential", "cred/auth_username").parent
    layers: list[tuple[str, str, dict[str, Any]]] = [
        (
            "from-old-name",
            "environment BULL_BOARD_USERNAME",
            {"environ": {"BULL_BOARD_USERNAME": "from-old-name"}},
        ),
        ("from-file", str(config.file), {"text": "[auth]\nusername = 'from-file'"}),
        (
            "from-credential",
            "credential auth_username",
            {"environ": {"CREDENTIALS_DIRECTORY": str(credentials)}},
        ),
        ("from-crmd", "environment CRMD_AUTH__USERNAME", {"environ": {"CRMD_AUTH__USERNAME": "from-crmd"}}),
        ("from-command-line", "command line", {"overrides": {"auth.username": "from-command-line"}}),
    ]
    text: str | None = None
    environ: dict[str, str] = {}
    overrides: dict[str, str] = {}
    for value, source, place in layers:
        text = place.get("text", text)
        environ |= place.get("environ", {})
        overrides |= place.get("overrides", {})

        loaded = config.load(text, environ=environ, overrides=overrides)

        assert loaded.settings.auth.username == value
        assert loaded.sources["auth.username"] == source


def test_the_platforms_redis_url_stands_between_credentials_and_crmd_variables(config: ConfigBench) -> None:
    credentials = config.write("redis://credential\n", "cred/redis_url").parent
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "REDIS_HOST": "old"}
    assert _url(config, environ) == "redis://credential"

    environ["REDIS_URL"] = "redis://platform"
    assert _url(config, environ) == "redis://platform"

    environ["CRMD_REDIS__URL"] = "redis://crmd"
    assert _url(config, environ) == "redis://crmd"


def test_a_table_of_the_file_keeps_what_a_variable_does_not_set(config: ConfigBench) -> None:
    loaded = config.load(
        "[queues.message]\nattempts = 7\nbackoff = { base = '5s' }",
        environ={"CRMD_QUEUES__MESSAGE__RATE_LIMIT": "80/s", "CRMD_QUEUES__MESSAGE__BACKOFF__MAX": "20s"},
    )

    message = loaded.settings.queue_settings()["message"]
    assert (message.attempts, str(message.rate_limit)) == (7, "80/s")
    assert (message.backoff.base_seconds, message.backoff.max_seconds) == (5.0, 20.0)
    assert loaded.sources["queues.message.rate_limit"] == "environment CRMD_QUEUES__MESSAGE__RATE_LIMIT"


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("CRMD_HTTP__PORT", "9000", "http.port", 9000),
        ("CRMD_HTTP__PORT", "none", "http.port", "none"),
        ("CRMD_DEFAULTS__CONCURRENCY", " 5 ", "defaults.concurrency", 5),
        ("CRMD_AUTH__PUBLIC_METRICS", "Yes", "auth.public_metrics", True),
        ("CRMD_AUTH__PUBLIC_METRICS", "0", "auth.public_metrics", False),
        ("CRMD_DAEMON__LOG_LEVEL", "WARNING", "daemon.log_level", "warning"),
        ("CRMD_HTTP__ALLOWED_HOSTS", "a.example, B.example", "http.allowed_hosts", ("a.example", "b.example")),
        ("CRMD_HTTP__ALLOWED_HOSTS", '["a.example"]', "http.allowed_hosts", ("a.example",)),
        ("CRMD_HTTP__TRUSTED_PROXIES", "['10.0.0.0/8']", "http.trusted_proxies", ("10.0.0.0/8",)),
        ("CRMD_HTTP__BASE_PATH", "jobs/", "http.base_path", "/jobs"),
        ("CRMD_DEFAULTS__BACKOFF", '{base = "1s", max = "1m"}', "defaults.backoff", {"base": "1s", "max": "1m"}),
        ("CRMD_DEFAULTS__BACKOFF", '{"base": "1s"}', "defaults.backoff", {"base": "1s", "max": "10m"}),
        ("CRMD_WHATSAPP__PHONE_NUMBER_ID", "123", "whatsapp.phone_number_id", "123"),
    ],
)
def test_variables_are_read_as_their_key_wants_them(
    config: ConfigBench, variable: str, text: str, key: str, value: object
) -> None:
    loaded = config.load(environ={variable: text})

    table, name = key.split(".")
    assert loaded.settings.model_dump()[table][name] == value
    assert loaded.warnings == []


def test_limits_may_come_from_a_variable(config: ConfigBench) -> None:
    environ = {"CRMD_QUEUES__AI__LIMITS": '[{"by": "user", "rate": "5/min"}]'}

    (limit,) = config.load(environ=environ).settings.queue_settings()["ai"].limits

    assert (limit.by, limit.burst, limit.period_seconds) == ("user", 5, 12.0)


def test_a_mistake_in_a_variable_names_the_variable_and_the_key(config: ConfigBench) -> None:
    (problem,) = config.problems(environ={"CRMD_QUEUES__AI__LIMITS": '[{"by": "user"}]'})

    assert str(problem) == "environment CRMD_QUEUES__AI__LIMITS: queues.ai.limits[0].rate: is missing"


@pytest.mark.parametrize(
    ("variable", "warning"),
    [
        ("CRMD_HTTP_PORT", "unknown variable, ignored; did you mean CRMD_HTTP__PORT?"),
        ("CRMD_HTTP__PROT", "unknown variable, ignored; did you mean CRMD_HTTP__PORT?"),
        ("CRMD_QUEUES__SMS__ATEMPTS", "unknown variable, ignored; did you mean CRMD_QUEUES__SMS__ATTEMPTS?"),
        ("CRMD_AUTH__PASWORD_FILE", "unknown variable, ignored; did you mean CRMD_AUTH__PASSWORD_FILE?"),
        ("CRMD_QQQQQ", "unknown variable, ignored"),
        ("CRMD_METRICS__HOST", "this version has no settings in [metrics] yet; the variable is ignored"),
    ],
)
def test_an_unknown_variable_is_a_warning(config: ConfigBench, variable: str, warning: str) -> None:
    assert config.load(environ={variable: "1"}).warnings == [f"environment {variable}: {warning}"]


@pytest.mark.parametrize(
    "variable", ["CRMD_PORT", "CRMD_SERVICE_HOST", "CRMD_SERVICE_PORT_HTTP", "CRMD_PORT_8080_TCP_ADDR"]
)
def test_what_kubernetes_sets_for_a_service_named_crmd_is_no_warning(config: ConfigBench, variable: str) -> None:
    assert config.load(environ={variable: "tcp://10.0.0.1:8080"}).warnings == []


def test_an_empty_variable_is_unset(config: ConfigBench) -> None:
    names = [
        "CRMD_HTTP__PORT",
        "CRMD_CONFIG",
        "CRMD_XX",
        "REDIS_URL",
        "DATABASE_URL",
        "REDIS_HOST",
        "REDIS_PASSWORD",
    ]
    names += ["BULL_BOARD_PASSWORD", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"]

    loaded = config.load(environ=dict.fromkeys(names, ""))

    assert loaded.warnings == []
    assert set(loaded.sources.values()) == {"default"}


def test_a_database_url_is_taken_from_the_platform(config: ConfigBench) -> None:
    loaded = config.load(environ={"DATABASE_URL": "postgres://u:p@h/d"})

    assert loaded.settings.database.url.get_secret_value() == "postgres://u:p@h/d"
    assert loaded.sources["database.url"] == "environment DATABASE_URL"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "r"}, "redis://r:6379/0"),
        ({"REDIS_HOST": "r", "REDIS_PORT": "6380", "REDIS_DB": "2"}, "redis://r:6380/2"),
        ({"REDIS_HOST": "r", "REDIS_PASSWORD": "p/w@#"}, "redis://:p%2Fw%40%23@r:6379/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "r", "REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://r:6379/0"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6379"}, ""),
        ({"REDIS_PASSWORD": "p"}, ""),
        ({"REDIS_HOST": "r", "REDIS_URL": "redis://u"}, "redis://u"),
    ],
)
def test_the_old_names_of_the_store(config: ConfigBench, environ: dict[str, str], url: str) -> None:
    assert _url(config, environ) == url


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (
            {"REDIS_HOST": "r", "REDIS_PORT": "x"},
            'environment REDIS_PORT: redis.url: must be a number, not "x"',
        ),
        (
            {"REDIS_HOST": "redis://r"},
            "environment REDIS_HOST: redis.url: must be a host name alone; write a whole URL into REDIS_URL",
        ),
        (
            {"REDIS_HOST": "r:6380"},
            "environment REDIS_HOST: redis.url: must be a host name alone; write a whole URL into REDIS_URL",
        ),
        (
            {"BULL_BOARD_PASSWORD": "admin123"},
            "environment BULL_BOARD_PASSWORD: auth.password: "
            "is the well-known default of the replaced system; choose another one",
        ),
    ],
)
def test_mistakes_in_old_names(config: ConfigBench, environ: dict[str, str], problem: str) -> None:
    assert [str(found) for found in config.problems(environ=environ)] == [problem]


def test_old_names_that_nothing_reads_are_not_judged(config: ConfigBench) -> None:
    environ = {"REDIS_HOST": "r", "REDIS_PORT": "x", "BULL_BOARD_PASSWORD": "admin123"}

    loaded = config.load(f"[redis]\nurl = 'redis://file'\n[auth]\npassword = '{LONG}'", environ=environ)

    assert loaded.settings.redis.url.get_secret_value() == "redis://file"


def test_parts_of_an_old_address_without_a_host_are_warned_about(config: ConfigBench) -> None:
    loaded = config.load(environ={"REDIS_PORT": "6380", "REDIS_PASSWORD": "p"})

    assert loaded.warnings == [
        "environment REDIS_PORT: not used without REDIS_HOST; set REDIS_HOST or REDIS_URL",
        "environment REDIS_PASSWORD: not used without REDIS_HOST; set REDIS_HOST or REDIS_URL",
    ]


def test_an_empty_url_in_the_file_is_the_embedded_store_whatever_the_old_names_say(config: ConfigBench) -> None:
    loaded = config.load("[redis]\nurl = ''", environ={"REDIS_HOST": "r"})

    assert loaded.settings.redis.url.get_secret_value() == ""


def test_a_credential_with_nearly_a_known_name_is_warned_about(config: ConfigBench) -> None:
    folder = config.write("x", "cred/auth_pasword").parent
    config.write("x", "cred/tls_key")

    loaded = config.load(environ={"CREDENTIALS_DIRECTORY": str(folder)})

    assert loaded.warnings == ['credential auth_pasword: unknown; did you mean "auth_password"?']


def test_the_command_line_passes_text_or_values_and_none_for_nothing(config: ConfigBench) -> None:
    overrides = {"http.port": 0, "http.host": None, "daemon.state_dir": ".state", "defaults.attempts": "5"}

    settings = config.load(overrides=overrides).settings

    assert (settings.http.port, settings.http.host, settings.defaults.attempts) == (0, "127.0.0.1", 5)
    assert settings.daemon.state_dir == config.folder / ".state"


def test_an_unknown_override_is_a_mistake(config: ConfigBench) -> None:
    (problem,) = config.problems(overrides={"http.prt": "1"})

    assert str(problem) == 'command line: http.prt: unknown key; did you mean "port"?'


def test_loading_again_gives_the_same(config: ConfigBench) -> None:
    environ = {"CRMD_QUEUES__SMS__HANDLERS": "my.sms"}

    assert config.load("[queues.ai]\nattempts = 4", environ=environ) == config.load(environ=environ)
    assert sorted(path.name for path in config.folder.iterdir()) == ["config.toml"]


# The state folder.


def test_the_state_folder_of_systemd_comes_first(config: ConfigBench) -> None:
    loaded = config.load(environ={"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"})

    assert loaded.settings.daemon.state_dir == Path("/var/lib/one")
    assert loaded.sources["daemon.state_dir"] == "environment STATE_DIRECTORY"


def test_a_usable_system_folder_comes_next(tmp_path: Path) -> None:
    creatable, existing, file = tmp_path / "new", tmp_path / "old", tmp_path / "file"
    existing.mkdir()
    file.write_text("")

    assert default_state_dir({"HOME": "/h"}, creatable)[0] == creatable
    assert default_state_dir({"HOME": "/h"}, existing)[0] == existing
    assert default_state_dir({"HOME": "/h"}, file)[0] == Path("/h/.local/state/crmd")
    assert not creatable.exists()


def test_the_users_own_folder_comes_last(config: ConfigBench) -> None:
    xdg = config.load(environ={"XDG_STATE_HOME": "/xdg"}).settings
    home = config.load("[daemon]\nstate_dir = ''", environ={"HOME": "/h", "XDG_STATE_HOME": "relative"}).settings

    assert xdg.daemon.state_dir == Path("/xdg/crmd")
    assert home.daemon.state_dir == Path("/h/.local/state/crmd")


def test_no_place_for_state_is_a_mistake(config: ConfigBench) -> None:
    (problem,) = config.problems(environ={"HOME": ""})

    assert problem.key == "daemon.state_dir"
    assert "HOME is not set; set it, or pass --state-dir" in problem.reason


def test_paths_are_relative_to_the_place_that_names_them(config: ConfigBench) -> None:
    path = config.write("[daemon]\nstate_dir = 'state'\n[redis]\nserver = '~/bin/valkey'", "sub/my.toml")

    settings = config.load(path=Path("sub/my.toml"), environ={"HOME": "/h"}).settings
    assert settings.daemon.state_dir == path.parent / "state"
    assert settings.redis.server == Path("/h/bin/valkey")

    settings = config.load(path=path, environ={"CRMD_DAEMON__STATE_DIR": "state"}).settings
    assert settings.daemon.state_dir == config.folder / "state"


def test_a_program_without_a_slash_is_left_to_be_looked_up(config: ConfigBench) -> None:
    assert config.load("[redis]\nserver = 'redis-server'").settings.redis.server == Path("redis-server")


def _url(config: ConfigBench, environ: dict[str, str]) -> str:
    return config.load(environ=environ).settings.redis.url.get_secret_value()
