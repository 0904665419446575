"""`Settings`: the whole configuration, including the shipped queues and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from crmd.config.shipped import SHIPPED_QUEUES, SHIPPED_SCHEDULES
from crmd.config.tables import (
    AiTable,
    AuthTable,
    DaemonTable,
    DatabaseTable,
    DefaultsTable,
    FilesTable,
    HttpTable,
    NotifyTable,
    QueueTable,
    RedisTable,
    Reserved,
    ScheduleTable,
    SettingsTable,
    SmtpTable,
    WebhookTable,
    WhatsAppTable,
    needs_key,
)
from crmd.config.values import Name, QueueName
from crmd.engine.settings import QueueSettings, ScheduleSettings


class Settings(SettingsTable):
    """The whole configuration."""

    daemon: DaemonTable = DaemonTable()
    redis: RedisTable = RedisTable()
    http: HttpTable = HttpTable()
    auth: AuthTable = AuthTable()
    defaults: DefaultsTable = DefaultsTable()
    queues: dict[QueueName, QueueTable] = Field({})
    schedules: dict[Name, ScheduleTable] = Field({})
    whatsapp: WhatsAppTable = WhatsAppTable()
    webhook: WebhookTable = WebhookTable()
    smtp: SmtpTable = SmtpTable()
    ai: AiTable = AiTable()
    notify: NotifyTable = NotifyTable()
    database: DatabaseTable = DatabaseTable()
    files: FilesTable = FilesTable()
    metrics: Reserved = Reserved()

    @model_validator(mode="before")
    @classmethod
    def _shipped_ones_too(cls, data: Any) -> Any:
        """Completes the tables of queues and schedules with what they ship with, and queues with `[defaults]`."""
        defaults, queues, schedules = (data.get(key, {}) for key in ("defaults", "queues", "schedules"))
        if isinstance(queues, dict):
            queues = {
                name: _over(defaults, _over(SHIPPED_QUEUES.get(name, {}), queues.get(name, {})))
                for name in {**SHIPPED_QUEUES, **queues}
            }
        if isinstance(schedules, dict):
            schedules = {
                name: _schedule(name, schedules.get(name, {})) for name in {**SHIPPED_SCHEDULES, **schedules}
            }
        return {**data, "queues": queues, "schedules": schedules}

    @property
    def password_required(self) -> bool:
        """Whether a password must be set, because none may be made up: external store, not loopback only."""
        return bool(self.redis.url) and not self.http.on_loopback_only

    def queue_settings(self) -> dict[str, QueueSettings]:
        """Each queue's settings, shipped queues first."""
        return {name: table.settings(name) for name, table in self.queues.items()}

    def schedule_settings(self) -> dict[str, ScheduleSettings]:
        """Each schedule's settings, also of those that are switched off."""
        return {name: table.settings(name) for name, table in self.schedules.items()}

    def unconfigured(self) -> dict[str, str]:
        """The queues whose jobs wait because their service is not configured, and what is not set.

        A queue with handlers of the user's own is left out: they may use another service.
        """
        whatsapp, ai = self.whatsapp, self.ai
        needs: dict[str, dict[str, object]] = {
            "message": {"whatsapp.phone_number_id": whatsapp.phone_number_id, "whatsapp.token": whatsapp.token},
            "email": {"smtp.host": self.smtp.host},
            "webhook": {"webhook.secret": self.webhook.all_signed},
            "ai": {"ai.key": ai.key or not needs_key(ai.base_url)},
        }
        missing = {queue: [key for key, value in keys.items() if not value] for queue, keys in needs.items()}
        return {
            queue: f"{' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} not set"
            for queue, keys in missing.items()
            if keys and not self.queues[queue].handlers
        }


RESERVED_TABLES = tuple(name for name, field in Settings.model_fields.items() if field.annotation is Reserved)


def _over(low: Any, high: Any) -> Any:
    """The values of a table over those of another. What is not a table is left to be refused."""
    if not isinstance(low, Mapping) or not isinstance(high, Mapping):
        return high
    return {**low, **{key: _over(low.get(key), value) for key, value in high.items()}}


def _schedule(name: str, table: Any) -> Any:
    """A shipped schedule's table changes the keys that it has; one with a job of its own replaces the schedule."""
    shipped = SHIPPED_SCHEDULES.get(name, {})
    if not isinstance(table, dict) or "job" in table:
        return table
    if {"cron", "every"} & table.keys():
        shipped = {key: value for key, value in shipped.items() if key != "cron"}
    return {**shipped, **table}
