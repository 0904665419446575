"""Each queue's settings in force, and what else follows from the configuration."""

from __future__ import annotations

import pytest

from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.config.render import render_queue
from crmd.config.shipped import SHIPPED_SCHEDULES
from crmd.engine.durations import Rate
from crmd.engine.settings import Backoff, KeyedLimit, QueueSettings
from tests.support.config import ConfigBench


def test_the_ten_queues_ship_with_their_own_settings() -> None:
    assert Settings().queue_settings() == {
        "message": QueueSettings(
            "message",
            rate_limit=Rate(20, 60.0),
            limits=(KeyedLimit("to", Rate(1, 6.0), 45),),
            unique_for_seconds=86_400.0,
        ),
        "campaign": QueueSettings("campaign", timeout_seconds=3600.0, attempts=2, unique_for_seconds=86_400.0),
        "flow": QueueSettings("flow", timeout_seconds=300.0),
        "email": QueueSettings("email", attempts=5, unique_for_seconds=86_400.0),
        "webhook": QueueSettings("webhook", attempts=5),
        "ai": QueueSettings("ai", timeout_seconds=300.0, attempts=2),
        "import": QueueSettings("import", timeout_seconds=600.0, attempts=1),
        "export": QueueSettings("export", timeout_seconds=300.0, attempts=2),
        "analytics": QueueSettings("analytics", timeout_seconds=600.0, attempts=2),
        "notification": QueueSettings("notification"),
    }


def test_a_queues_table_wins_over_what_it_ships_with_and_that_over_the_defaults(config: ConfigBench) -> None:
    queues = config.load(
        """
        [defaults]
        attempts = 9
        timeout = "none"
        keep_age = "30d"
        handlers = ["my.all"]
        backoff = { base = "3s" }
        [queues.email]
        timeout = "7s"
        handlers = []
        backoff = { max = "1h" }
        """
    ).settings.queue_settings()

    email, ai, flow = queues["email"], queues["ai"], queues["flow"]
    assert (email.attempts, email.timeout_seconds, email.handlers) == (5, 7.0, ())
    assert email.backoff == Backoff(3.0, 3600.0)
    assert (ai.attempts, ai.timeout_seconds, ai.handlers) == (2, 300.0, ("my.all",))
    assert (flow.attempts, flow.timeout_seconds) == (9, 300.0)
    assert queues["notification"].timeout_seconds is None
    assert {queue.keep_age_seconds for queue in queues.values()} == {30 * 86400.0}


def test_shipped_limits_can_be_lifted(config: ConfigBench) -> None:
    message = config.load("[queues.message]\nrate_limit = 'none'\nlimits = []").settings.queue_settings()[
        "message"
    ]

    assert message.rate_limit is None
    assert message.limits == ()


def test_queues_of_ones_own_come_after_the_shipped(config: ConfigBench) -> None:
    loaded = config.load("[queues.sms]\nhandlers = ['my.sms:send']\n[queues.a-1]\nhandlers = ['my.a']")

    queues = loaded.settings.queue_settings()

    assert list(queues)[10:] == ["sms", "a-1"]
    assert queues["sms"] == QueueSettings("sms", handlers=("my.sms:send",))
    assert loaded.warnings == []


@pytest.mark.parametrize(
    ("name", "hint"), [("mesage", 'did you mean "message"?'), ("sms", "name some with handlers")]
)
def test_a_queue_that_does_no_job_is_warned_about(config: ConfigBench, name: str, hint: str) -> None:
    loaded = config.load(f"[queues.{name}]")

    assert loaded.warnings == [f"queues.{name}: is a queue of its own without handlers, and does no job; {hint}"]


def test_the_burst_is_the_rates_count_where_none_is_given(config: ConfigBench) -> None:
    text = "[queues.ai]\nlimits = [{ by = 'user', rate = '5/min' }, { by = 'team', rate = '5/min', burst = 2 }]"

    limits = config.load(text).settings.queue_settings()["ai"].limits

    assert [limit.burst for limit in limits] == [5, 2]


def test_a_schedule_is_read(config: ConfigBench) -> None:
    loaded = config.load(
        """
        [schedules.daily]
        queue = "sms"
        job = "remind"
        cron = "0 9 * * MON-FRI"
        timezone = "Europe/Berlin"
        payload = { list = [1, "a"] }
        [queues.sms]
        handlers = ["my.sms"]
        """
    )

    schedule = loaded.settings.schedules["daily"]
    assert (schedule.cron, schedule.every, schedule.missed) == ("0 9 * * mon-fri", None, "once")
    assert schedule.payload == {"list": [1, "a"]}
    assert loaded.warnings == []


def test_a_shipped_schedule_is_changed_replaced_or_switched_off(config: ConfigBench) -> None:
    shipped = config.load("").settings.schedules
    assert set(shipped) == set(SHIPPED_SCHEDULES)
    assert (shipped["daily_snapshot"].cron, shipped["daily_snapshot"].enabled) == ("5 0 * * *", True)

    text = "[schedules.hourly_snapshot]\nenabled = false\n[schedules.daily_snapshot]\nevery = '12h'"
    changed = config.load(text).settings.schedules
    assert changed["hourly_snapshot"] == shipped["hourly_snapshot"].model_copy(update={"enabled": False})
    daily = changed["daily_snapshot"]
    assert (daily.cron, daily.every, daily.payload) == (None, 43_200.0, {"period": "day", "again": 3})

    own = config.load(
        "[schedules.daily_snapshot]\nqueue = 'notification'\njob = 'notify'\nevery = '1h'\nmissed = 'skip'"
    )
    assert own.settings.schedules["daily_snapshot"].payload == {}


def test_the_environment_may_switch_a_shipped_schedule_off(config: ConfigBench) -> None:
    loaded = config.load("", {"CRMD_SCHEDULES__DAILY_SNAPSHOT__ENABLED": "false"})
    assert loaded.settings.schedules["daily_snapshot"].enabled is False


def test_settings_of_the_embedded_store_beside_a_url_are_warned_about(config: ConfigBench) -> None:
    loaded = config.load("[redis]\nfsync = 'always'", environ={"REDIS_URL": "redis://h"})

    assert loaded.warnings == [f"{config.file}: redis.fsync: has no effect, because redis.url names another store"]


@pytest.mark.parametrize(
    ("host", "url", "required"),
    [
        ("127.0.0.1", "redis://h", False),
        ("localhost", "redis://h", False),
        ("::1", "redis://h", False),
        ("0.0.0.0", "redis://h", True),
        ("::", "redis://h", True),
        ("crm.example", "redis://h", True),
        ("0.0.0.0", "", False),
    ],
)
def test_when_a_password_must_be_set(host: str, url: str, required: bool) -> None:
    settings = Settings.model_validate({"http": {"host": host}, "redis": {"url": url}})

    assert settings.password_required is required


def test_without_http_nothing_listens_beyond_this_machine() -> None:
    assert Settings.model_validate({"http": {"host": "0.0.0.0", "port": "none"}}).http.on_loopback_only


@pytest.mark.parametrize(
    ("given", "path"), [("", ""), ("/", ""), ("/a", "/a"), ("a/b/", "/a/b"), ("/a-b_c.d~e", "/a-b_c.d~e")]
)
def test_the_base_path_is_normalised(given: str, path: str) -> None:
    assert Settings.model_validate({"http": {"base_path": given}}).http.base_path == path


@pytest.mark.parametrize("address", ["127.0.0.1:6380", "localhost:1", "[::1]:65535", "0.0.0.0:6379"])
def test_addresses_that_the_embedded_store_may_listen_on(address: str) -> None:
    assert Settings.model_validate({"redis": {"listen": address}}).redis.listen == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%2Fw@host:6380/15",
        "rediss://host?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&db=1",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock?db=2",
        "unix://user:pw@/run/redis.sock",
    ],
)
def test_urls_of_stores(url: str) -> None:
    assert Settings.model_validate({"redis": {"url": url}}).redis.url.get_secret_value() == url


def test_a_queues_settings_are_shown_with_their_sources(config: ConfigBench) -> None:
    loaded = config.load("[defaults]\nkeep_failed = 7\n[queues.message.backoff]\nmax = '1m'")

    rows = _rows(loaded, "message")

    assert rows["backoff.max"] == ('"1m"', str(config.file))
    assert rows["backoff.base"] == ('"2s"', "[defaults]: default")
    assert rows["keep_failed"] == ("7", f"[defaults]: {config.file}")
    assert rows["rate_limit"] == ('"20/min"', "shipped with the queue")
    assert _rows(loaded, "ai")["rate_limit"] == ('"none"', "[defaults]: default")


def _rows(loaded: Loaded, name: str) -> dict[str, tuple[str, str]]:
    return {row.key.removeprefix(f"queues.{name}."): (row.value, row.source) for row in render_queue(loaded, name)}
