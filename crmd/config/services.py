"""Which outside services are configured, and what is missing where one is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crmd.config.model import Settings

OPENAI_URL = "https://api.openai.com/v1"


def needs_key(base_url: str) -> bool:
    """Whether an AI service needs a key: OpenAI's own does, one on one's own machines does not."""
    return base_url.rstrip("/") == OPENAI_URL


def unconfigured(settings: Settings) -> dict[str, str]:
    """The queues whose jobs wait because their service is not configured, and what is not set.

    A queue with handlers of the user's own is left out: they may use another service.
    """
    own = {name for name, queue in settings.queue_settings().items() if queue.handlers}
    missing = {
        "message": _whatsapp(settings),
        "email": [] if settings.smtp.host else ["smtp.host"],
        "webhook": _webhook(settings),
        "ai": ["ai.key"] if needs_key(settings.ai.base_url) and not settings.ai.key.get_secret_value() else [],
    }
    return {queue: _not_set(keys) for queue, keys in missing.items() if keys and queue not in own}


def _whatsapp(settings: Settings) -> list[str]:
    table = settings.whatsapp
    values = {"whatsapp.phone_number_id": table.phone_number_id, "whatsapp.token": table.token.get_secret_value()}
    return [key for key, value in values.items() if not value]


def _webhook(settings: Settings) -> list[str]:
    """Endpoints that all have secrets of their own need no common one."""
    table = settings.webhook
    endpoints = list(table.endpoints.values())
    served = bool(endpoints) and all(endpoint.secret.get_secret_value() for endpoint in endpoints)
    return [] if served or table.secret.get_secret_value() else ["webhook.secret"]


def _not_set(keys: list[str]) -> str:
    return f"{' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} not set"
