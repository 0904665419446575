"""What is said of queues whose service is not configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.config import ConfigBench

SECRET = f"whsec_{'A' * 32}"


@pytest.fixture
def config(tmp_path: Path) -> ConfigBench:
    return ConfigBench(tmp_path)


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
