"""Clients are made anew only where their table changes, and what is said of services that are not configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from crmd.crm.database.database import Database
from crmd.crm.files.store import FileStore
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.daemon.resources import Resources
from crmd.errors import ConfigError
from tests.support.config import ConfigBench


@pytest.fixture
def config(tmp_path: Path) -> ConfigBench:
    return ConfigBench(tmp_path)


def test_only_what_changed_is_made_anew(config: ConfigBench) -> None:
    resources = Resources()
    first = resources.make(config.load(""))
    second = resources.make(config.load("[webhook]\ntimeout = '3s'"))
    assert second[WhatsAppClient] is first[WhatsAppClient]
    assert second[WebhookClient] is not first[WebhookClient]


def test_what_cannot_be_made_changes_nothing(config: ConfigBench, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources()
    first = resources.make(config.load(""))

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such thing")

    both = config.load("[webhook]\ntimeout = '3s'\n[whatsapp]\nphone_number_id = '5'")
    with monkeypatch.context() as patch:
        patch.setattr("crmd.daemon.resources.WebhookClient", refuse)
        with pytest.raises(ConfigError, match="webhook: no such thing"):
            resources.make(both)
    again = resources.make(config.load("[whatsapp]\nphone_number_id = '5'"))
    assert again[WebhookClient] is first[WebhookClient]
    assert again[WhatsAppClient] is not first[WhatsAppClient]


def test_the_database_of_the_start_stays_and_a_wrong_address_is_told(config: ConfigBench) -> None:
    resources = Resources()
    first = resources.make(config.load(""))
    second = resources.make(config.load("[database]\nurl = 'sqlite:////srv/other.sqlite'\n[files]\nmax_bytes = 7"))
    assert second[Database] is first[Database]
    assert second[FileStore] is first[FileStore]
    assert second[FileStore].max_bytes == 7
    with pytest.raises(ConfigError, match="database: names no file"):
        resources.make(config.load("[database]\nurl = 'sqlite://'\n[files]\nmax_bytes = 8"))
    assert second[FileStore].max_bytes == 7


# Services


SECRET = f"whsec_{'A' * 32}"


def test_nothing_is_configured(config: ConfigBench) -> None:
    assert config.load("").settings.unconfigured() == {
        "message": "whatsapp.phone_number_id and whatsapp.token are not set",
        "email": "smtp.host is not set",
        "webhook": "webhook.secret is not set",
        "ai": "ai.key is not set",
    }


def test_all_is_configured(config: ConfigBench) -> None:
    text = f"""
        [whatsapp]
        phone_number_id = "1"
        token = "t"
        [webhook]
        secret = "{SECRET}"
        [smtp]
        host = "mail.example.com"
        [ai]
        key = "k"
    """
    assert config.load(text).settings.unconfigured() == {}


def test_what_will_do(config: ConfigBench) -> None:
    text = f"""
        [whatsapp]
        phone_number_id = "1"
        [webhook.endpoints.shop]
        url = "https://shop.example.com/hook"
        secret = "{SECRET}"
        [ai]
        base_url = "http://127.0.0.1:11434/v1/"
        [queues.email]
        handlers = ["os.path:join"]
    """
    assert config.load(text).settings.unconfigured() == {"message": "whatsapp.token is not set"}


def test_a_password_does_not_cross_the_network_in_the_clear(config: ConfigBench) -> None:
    table = '[smtp]\nhost = "{}"\nsecurity = "none"\nusername = "{}"'
    [problem] = config.problems(table.format("mail.example.com", "ann"))
    assert "readable" in problem.reason
    assert config.problems(table.format("127.0.0.1", "ann")) == []
    assert config.problems(table.format("mail.example.com", "")) == []


def test_the_sender_is_checked(config: ConfigBench) -> None:
    [problem] = config.problems('[smtp]\nsender = "CRM"')
    assert (problem.key, "is not a mail address" in problem.reason) == ("smtp.sender", True)
    assert config.load('[smtp]\nsender = "CRM <crm@example.com>"').settings.smtp.sender == "CRM <crm@example.com>"
