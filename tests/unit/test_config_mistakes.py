"""Every kind of mistake: its key, and exactly what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.config import schema
from crmd.config.load import load
from crmd.config.render import render_effective
from crmd.errors import ConfigError, ExitCode
from tests.support.config import ConfigBench

SHA256 = "ab" * 32

MISTAKES = [
    # Unknown keys.
    ("htp = 1", "htp", 'unknown table or key; did you mean "http"?'),
    ("[zzz]", "zzz", None),
    ("[http]\nprt = 1", "http.prt", 'unknown key; did you mean "port"?'),
    (
        "[http]\nzzz = 1",
        "http.zzz",
        "unknown key; possible are host, port, base_path, trusted_proxies, allowed_hosts",
    ),
    ("[daemon]\nbase_path = '/x'", "daemon.base_path", 'unknown key; did you mean "http.base_path"?'),
    ("[queues.message]\nconcurency = 5", "queues.message.concurency", 'unknown key; did you mean "concurrency"?'),
    ("[queues.ai]\nretries = 5", "queues.ai.retries", 'unknown key; did you mean "attempts"?'),
    ("[queues.ai]\nlimiter = {}", "queues.ai.limiter", 'unknown key; did you mean "rate_limit"?'),
    ("[queues.ai]\nremoveOnFail = 1", "queues.ai.removeOnFail", 'unknown key; did you mean "keep_failed"?'),
    ("[defaults.backoff]\nmin = '1s'", "defaults.backoff.min", "unknown key; possible are base, max"),
    ("[auth]\npasword_file = 'x'", "auth.pasword_file", 'unknown key; did you mean "password_file"?'),
    ("[auth]\nusername_file = 'x'", "auth.username_file", 'unknown key; did you mean "username"?'),
    ("[metrics]\nhost = 'x'", "metrics.host", "this version has no settings in [metrics] yet; remove the key"),
    ("[metrics.mail]\nto = 'x'", "metrics.mail", "this version has no settings in [metrics] yet; remove the key"),
    # Wrong types.
    ("http = 5", "http", "must be a table"),
    ("queues = []", "queues", "must be a table"),
    ("[queues]\nai = 5", "queues.ai", "must be a table"),
    ("[defaults]\nconcurrency = '5'", "defaults.concurrency", 'must be a whole number from 1 to 10000, not "5"'),
    ("[defaults]\nconcurrency = 5.0", "defaults.concurrency", "must be a whole number from 1 to 10000, not 5.0"),
    ("[defaults]\nconcurrency = true", "defaults.concurrency", "must be a whole number from 1 to 10000, not true"),
    ("[auth]\npublic_metrics = 'yes'", "auth.public_metrics", 'must be true or false, not "yes"'),
    ("[auth]\npassword = 12345678", "auth.password", "must be text in quotes"),
    ("[daemon]\nstate_dir = 5", "daemon.state_dir", "must be a path, not 5"),
    ('[daemon]\nstate_dir = "/a\\u0007b"', "daemon.state_dir", 'must be a path, not "/a\\u0007b"'),
    (
        "[defaults]\nhandlers = 'a'",
        "defaults.handlers",
        'must be a list of handlers such as "myapp.jobs", not "a"',
    ),
    (
        "[defaults]\ntimeout = true",
        "defaults.timeout",
        'must be a duration from "1ms" to "30d", or "none", not true',
    ),
    ("[defaults]\nbackoff = '2s'", "defaults.backoff", "must be a table"),
    ("[queues.ai]\nlimits = {}", "queues.ai.limits", "must be a list of limits, not a table"),
    ("[queues.ai]\nlimits = ['x']", "queues.ai.limits[0]", "must be a table"),
    ("[queues.ai]\nrate_limit = 20", "queues.ai.rate_limit", 'must be a rate such as "20/min", or "none", not 20'),
    (
        "[defaults]\nkeep_age = 2020-01-01",
        "defaults.keep_age",
        'must be a duration from "1s" to "3650d", or "none", not a date or time',
    ),
    # Values that are out of bounds or of the wrong form.
    ("[defaults]\nattempts = 0", "defaults.attempts", "must be a whole number from 1 to 100, not 0"),
    (
        "[defaults]\nconcurrency = 10001",
        "defaults.concurrency",
        "must be a whole number from 1 to 10000, not 10001",
    ),
    (
        "[defaults]\ntimeout = 60",
        "defaults.timeout",
        '60 has no unit; write "60s" for seconds or "60ms" for milliseconds (Bull\'s unit)',
    ),
    (
        "[defaults]\ntimeout = '0s'",
        "defaults.timeout",
        'must be a duration from "1ms" to "30d", or "none", not "0s"',
    ),
    ("[defaults]\nstall_after = '2d'", "defaults.stall_after", 'must be a duration from "1s" to "1d", not "2d"'),
    (
        "[daemon]\ndrain_timeout = 'none'",
        "daemon.drain_timeout",
        'must be a duration from "0s" to "1d", not "none"',
    ),
    (
        "[queues.ai]\nrate_limit = 'fast'",
        "queues.ai.rate_limit",
        '"fast" is not a rate; write count/period, such as "20/min", "80/s" or "100/10s"',
    ),
    (
        "[queues.ai]\nrate_limit = '1/99d'",
        "queues.ai.rate_limit",
        'must be at most 1000000 in at most 31d, not "1/99d"',
    ),
    (
        "[daemon]\nlog_level = 'loud'",
        "daemon.log_level",
        'must be "debug" or "info" or "warning" or "error", not "loud"',
    ),
    ("[redis]\nfsync = 'no'", "redis.fsync", 'must be "everysec" or "always", not "no"'),
    ("[redis]\nfsync = 'Never'", "redis.fsync", 'must be "everysec" or "always", not "Never"'),
    ("[files]\nkeep = '90000h'", "files.keep", 'must be a duration from "1m" to "3650d", not "90000h"'),
    (
        "[notify.alerts]\nfailure_share = 2",
        "notify.alerts.failure_share",
        "must be a number from 0 to 1, not 2",
    ),
    (
        "[whatsapp]\nrate = '1/min'",
        "whatsapp.rate",
        'must be a rate from "1/s" to "1000/s", not "1/min"',
    ),
    (
        "[defaults]\nattempts = 0\n[queues.sms]\nhandlers = ['my.sms']",
        "defaults.attempts",
        "must be a whole number from 1 to 100, not 0",
    ),
    (
        "[http]\nport = '8080'",
        "http.port",
        'must be a port from 1 to 65535, 0 for any free one, or "none", not "8080"',
    ),
    (
        "[http]\nport = 65536",
        "http.port",
        'must be a port from 1 to 65535, 0 for any free one, or "none", not 65536',
    ),
    (
        "[http]\nhost = '127.0.0.1:80'",
        "http.host",
        'must be a host name or an IP address such as "127.0.0.1", not "127.0.0.1:80"',
    ),
    (
        "[http]\nhost = '127.0.0.300'",
        "http.host",
        'must be a host name or an IP address such as "127.0.0.1", not "127.0.0.300"',
    ),
    ("[http]\nbase_path = '/a/../b'", "http.base_path", 'must be a path such as "/jobs", not "/a/../b"'),
    ("[http]\nbase_path = '/a?b'", "http.base_path", 'must be a path such as "/jobs", not "/a?b"'),
    (
        "[http]\ntrusted_proxies = ['::1', 'lan']",
        "http.trusted_proxies[1]",
        'must be a network such as "10.0.0.0/8", not "lan"',
    ),
    (
        "[http]\ntrusted_proxies = ['10.0.0.1/8']",
        "http.trusted_proxies[0]",
        '"10.0.0.1/8" is an address inside a network; write "10.0.0.0/8"',
    ),
    ("[http]\nallowed_hosts = ['a', 'a']", "http.allowed_hosts", 'has "a" twice'),
    (
        "[redis]\nlisten = ':6380'",
        "redis.listen",
        'must be an address and a port such as "127.0.0.1:6380", not ":6380"',
    ),
    (
        "[defaults]\nhandlers = ['my app']",
        "defaults.handlers[0]",
        'must be "package.module" or "package.module:function", not "my app"',
    ),
    ("[defaults]\nhandlers = ['a.b', 'a.b']", "defaults.handlers", 'has "a.b" twice'),
    (
        "[whatsapp]\nphone_number_id = '+49'",
        "whatsapp.phone_number_id",
        'must be the digits of the number\'s id, not "+49"',
    ),
    (
        '[whatsapp]\napi_version = "v23.0\\n"',
        "whatsapp.api_version",
        'must be a version such as "v23.0", not "v23.0\\n"',
    ),
    ("[whatsapp]\napi_version = '23'", "whatsapp.api_version", 'must be a version such as "v23.0", not "23"'),
    (
        "[whatsapp]\nbase_url = 'graph.facebook.com'",
        "whatsapp.base_url",
        'must be a URL such as "https://example.com", without credentials',
    ),
    (
        "[webhook]\nsecret = 'whsec_?'",
        "webhook.secret",
        'must be "whsec_" and base64; make one with: openssl rand -base64 32',
    ),
    ("[auth]\nusername = 'a:b'", "auth.username", 'must be a name of up to 128 characters without ":"'),
    ("[auth]\npassword = 'short12'", "auth.password", "is shorter than 8 characters"),
    (
        "[auth]\npassword = 'admin123'",
        "auth.password",
        "is the well-known default of the replaced system; choose another one",
    ),
    ('[auth]\npassword = "long\\nenough"', "auth.password", "has control characters or is not UTF-8"),
    # Names.
    (
        "[queues.job]",
        "queues.job",
        '"job" is reserved; queues cannot be named job, abort, health, metrics, statistics',
    ),
    (
        "[queues.'Bad Name']",
        'queues."Bad Name"',
        'must be 1 to 64 of the characters a-z 0-9 _ -, not "Bad Name"',
    ),
    # What does not fit together.
    (
        "[defaults]\nbackoff = { base = '2m', max = '1m' }",
        "defaults.backoff",
        'base, "2m", is longer than max, "1m"',
    ),
    ("[defaults]\nbackoff = { base = '20m' }", "defaults.backoff", 'base, "20m", is longer than max, "10m"'),
    (
        "[queues.ai]\nbackoff = { base = '20m' }",
        "queues.ai.backoff",
        'base, "20m", is longer than max, "10m"',
    ),
    ("[queues.ai]\nlimits = [{ by = 'to' }]", "queues.ai.limits[0].rate", "is missing"),
    (
        "[queues.ai]\nlimits = [{ by = 'to', rate = '1/s' }, { by = 'to', rate = '2/h' }]",
        "queues.ai.limits",
        'has two limits by "to"',
    ),
    (
        "[queues.ai]\nlimits = [{ by = 'to', rate = '1/s', brst = 1 }]",
        "queues.ai.limits[0].brst",
        'unknown key; did you mean "burst"?',
    ),
    # Tokens.
    (f"[auth.tokens.a]\nsha256 = '{SHA256}'", "auth.tokens.a.scopes", "is missing"),
    (
        f"[auth.tokens.a]\nsha256 = '{SHA256}'\nscopes = []",
        "auth.tokens.a.scopes",
        'is empty; name at least one of "enqueue", "read", "operate"',
    ),
    (
        f"[auth.tokens.a]\nsha256 = '{SHA256}'\nscopes = ['admin']",
        "auth.tokens.a.scopes[0]",
        'must be "enqueue" or "read" or "operate", not "admin"',
    ),
    (
        "[auth.tokens.a]\nsha256 = 'the token itself'\nscopes = ['read']",
        "auth.tokens.a.sha256",
        "must be the token's SHA-256 as 64 hexadecimal digits",
    ),
    (
        f"[auth.tokens.a]\nsha256 = '{SHA256}'\nscopes = ['read']\nqueues = ['mesage']",
        "auth.tokens.a.queues[0]",
        'there is no queue "mesage"; did you mean "message"?',
    ),
    (
        f"[auth.tokens]\na = {{ sha256 = '{SHA256}', scopes = ['read'] }}\n"
        f"b = {{ sha256 = '{SHA256.upper()}', scopes = ['read'] }}",
        "auth",
        'tokens "a" and "b" are the same token; make one for each',
    ),
    # Schedules.
    ("[schedules.a]\nqueue = 'ai'\njob = 'x'", "schedules.a", 'needs either "cron" or "every"'),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\ncron = '@daily'\nevery = '1h'",
        "schedules.a",
        'needs either "cron" or "every"',
    ),
    (
        "[schedules.a]\nqueue = 'zzz'\njob = 'x'\nevery = '1h'",
        "schedules.a.queue",
        'there is no queue "zzz"; there are message, campaign, flow, email, webhook, ai, import, export, '
        "analytics, notification",
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\ncron = '0 0 30 2 *'",
        "schedules.a.cron",
        '"0 0 30 2 *" never comes due',
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\ncron = '0 0 0 * * *'",
        "schedules.a.cron",
        '"0 0 0 * * *" has 6 fields; a cron expression has five: minute, hour, day, month, day of week',
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\ncron = 'R * * * *'",
        "schedules.a.cron",
        '"r * * * *" has a random or hashed field, which every daemon would read differently',
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\ncron = '0 25 * * *'",
        "schedules.a.cron",
        '"0 25 * * *" is not a cron expression: [0 25 * * *] is not acceptable, out of range',
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\nevery = '1h'\ntimezone = 'Europe/Berln'",
        "schedules.a.timezone",
        '"Europe/Berln" is not a time zone; did you mean "Europe/Berlin"?',
    ),
    (
        "[schedules.a]\nqueue = 'ai'\njob = 'x'\nevery = '1h'\npayload = { at = 2020-01-01 }",
        "schedules.a.payload",
        "holds what JSON cannot, such as a date, inf or nan; write it as text",
    ),
    # Notifications.
    (
        "[notify.channels.team]\nurl = 'hooks.slack.com/T0/B0/s3cret'",
        "notify.channels.team.url",
        'must be an Apprise URL such as "slack://…"; https://appriseit.com lists them',
    ),
    (
        "[notify.alerts]\nchannel = 'team'",
        "notify",
        'alerts.channel is "team"; there are log',
    ),
    # The store's URL.
    ("[redis]\nurl = 'localhost'", "redis.url", "is not a URL; write it like redis://localhost:6379/0"),
    (
        "[redis]\nurl = 'http://x'",
        "redis.url",
        'scheme "http" is not supported; write redis://, rediss:// or unix://',
    ),
    ("[redis]\nurl = 'redis+sentinel://a:1,b:2/m/0'", "redis.url", "Sentinel is not supported by this version"),
    ("[redis]\nurl = 'rediss+cluster://a:1,b:2'", "redis.url", "Cluster is not supported by this version"),
    ("[redis]\nurl = 'redis://'", "redis.url", "names no host; write it like redis://localhost:6379/0"),
    (
        "[redis]\nurl = 'redis://a/b'",
        "redis.url",
        "must end in the number of a database, such as /0, or in nothing",
    ),
    ("[redis]\nurl = 'redis://a:0'", "redis.url", "port must be from 1 to 65535, not 0"),
    ("[redis]\nurl = 'redis://a?dbb=1'", "redis.url", 'option "dbb" is not supported; did you mean "db"?'),
    ("[redis]\nurl = 'redis://a?db=x'", "redis.url", "option db must be a number"),
    ("[redis]\nurl = 'redis://a?ssl_ca_certs=x'", "redis.url", "option ssl_ca_certs needs rediss://"),
    ("[redis]\nurl = 'unix://'", "redis.url", "names no socket; write it like unix:///run/redis/redis.sock"),
    (
        "[redis]\nurl = 'unix://run/redis.sock'",
        "redis.url",
        "has a host, and a socket is a path: write three slashes, like unix:///run/redis/redis.sock",
    ),
    ("[redis]\nurl = 'redis://:a#b@c'", "redis.url", None),
]


@pytest.mark.parametrize(("text", "key", "reason"), MISTAKES)
def test_a_mistake_is_named(config: ConfigBench, text: str, key: str, reason: str | None) -> None:
    problems = config.problems(text)

    assert [(problem.source, problem.key) for problem in problems] == [(str(config.file), key)]
    if reason is not None:
        assert problems[0].reason == reason


def test_every_mistake_is_found_at_once(config: ConfigBench) -> None:
    text = """
        [http]
        prt = 1
        host = 5
        [defaults]
        timeout = 60
        [queues.ai]
        rate_limit = "x"
        [auth]
        password_file = "absent"
    """

    problems = config.problems(text, environ={"CRMD_HTTP__PORT": "x", "REDIS_URL": "ftp://x"})

    assert {problem.key for problem in problems} == {
        "http.prt",
        "http.host",
        "http.port",
        "defaults.timeout",
        "queues.ai.rate_limit",
        "auth.password_file",
        "redis.url",
    }


def test_the_error_says_all_in_one_line_and_has_its_exit_code(config: ConfigBench) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load("[http]\nprt = 1\nhost = 5")

    assert caught.value.exit_code is ExitCode.CONFIG
    assert "\n" not in str(caught.value)
    assert f'{config.file}: http.prt: unknown key; did you mean "port"?' in str(caught.value)


SECRET = "Gr8secret/#?@:x"


@pytest.mark.parametrize(
    "text",
    [
        f"[redis]\nurl = 'redis://:{SECRET}@host:6379/0'",
        f"[redis]\nurl = 'redis://:{SECRET}'",
        f"redis = 'redis://:{SECRET}@host'",
        f'[auth]\npassword = "{SECRET}\\u0000"',
        f"[auth]\npassword = ['{SECRET}']",
        f"[auth]\nusername = 'admin:{SECRET}'",
        f"[auth.tokens.a]\nsha256 = '{SECRET}'\nscopes = ['read']",
        f"[webhook]\nsecret = '{SECRET}'",
        f"[whatsapp]\nbase_url = 'https://me:{SECRET}@example.com'",
        f'[whatsapp]\ntoken = "{SECRET}\\n"',
    ],
)
def test_a_mistake_never_shows_a_secret(config: ConfigBench, text: str) -> None:
    problems = config.problems(text)

    assert problems
    assert "Gr8secret" not in "".join(map(str, problems))


@pytest.mark.parametrize("table", ["metrics"])
def test_a_table_of_a_later_version_may_stand_there_empty(config: ConfigBench, table: str) -> None:
    assert config.problems(f"[{table}]") == []


def test_the_text_of_a_variable_is_a_whole_number_only_if_it_says_so(config: ConfigBench) -> None:
    (problem,) = config.problems(environ={"CRMD_DEFAULTS__CONCURRENCY": "1.0"})

    assert problem.reason == 'must be a whole number from 1 to 10000, not "1.0"'


def test_a_variable_that_is_not_utf_8_is_a_mistake(config: ConfigBench) -> None:
    (problem,) = config.problems(environ={"CRMD_HTTP__HOST": "caf\udce9"})

    assert str(problem) == "environment CRMD_HTTP__HOST: http.host: is not UTF-8 text"


VARIABLES = [
    *("CRMD_" + "__".join(path).replace(schema.NAME, "x").upper() for path, _ in schema.leaves()),
    *("CRMD_HTTP", "CRMD_QUEUES", "CRMD_QUEUES__X", "CRMD_AUTH__TOKENS", "CRMD_HTTP__", "CRMD_"),
    *("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD", "BULL_BOARD_USERNAME"),
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="\0")),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=5,
    ).map(json.dumps),
)


@given(st.dictionaries(st.sampled_from(VARIABLES), TEXTS, max_size=4))
def test_whatever_the_environment_holds_it_loads_or_says_why_in_one_line(environ: dict[str, str]) -> None:
    shown = _outcome(environ)

    assert shown
    assert all("\n" not in line for line in shown)


def _outcome(environ: dict[str, str]) -> list[str]:
    nowhere = Path("/nonexistent")
    try:
        loaded = load(path=None, environ={"HOME": "/h", **environ}, cwd=nowhere, system_config=nowhere)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [*loaded.warnings, *(row.value for row in render_effective(loaded))]
