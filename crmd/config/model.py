"""`Settings`: the whole configuration, and how each queue's settings follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, field_validator

from crmd.config.queue_tables import DefaultsTable, Name, QueueName, QueueTable, ScheduleTable, Table
from crmd.config.service_tables import AiTable, DatabaseTable, FilesTable, NotifyTable, SmtpTable
from crmd.config.shipped import SHIPPED_QUEUES, with_shipped
from crmd.config.tables import (
    AuthTable,
    DaemonTable,
    HttpTable,
    RedisTable,
    Reserved,
    WebhookTable,
    WhatsAppTable,
)
from crmd.engine.settings import Backoff, QueueSettings, ScheduleSettings


class Settings(Table):
    """The whole configuration."""

    daemon: DaemonTable = DaemonTable()
    redis: RedisTable = RedisTable()
    http: HttpTable = HttpTable()
    auth: AuthTable = AuthTable()
    defaults: DefaultsTable = DefaultsTable()
    queues: dict[Annotated[str, QueueName()], QueueTable] = Field({})
    schedules: dict[Name, ScheduleTable] = Field({}, validate_default=True)
    whatsapp: WhatsAppTable = WhatsAppTable()
    webhook: WebhookTable = WebhookTable()
    smtp: SmtpTable = SmtpTable()
    ai: AiTable = AiTable()
    notify: NotifyTable = NotifyTable()
    database: DatabaseTable = DatabaseTable()
    files: FilesTable = FilesTable()
    metrics: Reserved = Reserved()

    @field_validator("schedules", mode="before")
    @classmethod
    def _shipped_ones_too(cls, value: Any) -> Any:
        return with_shipped(value) if isinstance(value, dict) else value

    def queue_settings(self) -> dict[str, QueueSettings]:
        """Each queue's settings in force, shipped queues first."""
        names = [*SHIPPED_QUEUES, *(name for name in self.queues if name not in SHIPPED_QUEUES)]
        return {name: self._resolve(name) for name in names}

    def schedule_settings(self) -> dict[str, ScheduleSettings]:
        """Each schedule's settings in force, also of those that are switched off."""
        return {
            name: ScheduleSettings(
                name=name,
                queue=table.queue,
                job=table.job,
                cron=table.cron,
                every_seconds=table.every,
                timezone=table.timezone,
                missed=table.missed,
                payload=table.payload,
                enabled=table.enabled,
            )
            for name, table in self.schedules.items()
        }

    def queue_tables(self, name: str) -> tuple[QueueTable, QueueTable, DefaultsTable]:
        """Where a queue's settings come from, first match first: its table, what it ships with, `[defaults]`."""
        shipped = QueueTable.model_validate(SHIPPED_QUEUES.get(name, {}))
        return self.queues.get(name, QueueTable()), shipped, self.defaults

    @property
    def password_required(self) -> bool:
        """Whether a password must be set, because none may be made up: external store, not loopback only."""
        return bool(self.redis.url.get_secret_value()) and not self.http.on_loopback_only

    def _resolve(self, name: str) -> QueueSettings:
        tables = self.queue_tables(name)
        backoffs = [table.backoff for table in tables]
        return QueueSettings(
            name=name,
            concurrency=_first(tables, "concurrency"),
            attempts=_first(tables, "attempts"),
            backoff=Backoff(_first(backoffs, "base"), _first(backoffs, "max")),
            timeout_seconds=_first(tables, "timeout"),
            keep_completed=_first(tables, "keep_completed"),
            keep_failed=_first(tables, "keep_failed"),
            keep_min_seconds=_first(tables, "keep_min"),
            keep_age_seconds=_first(tables, "keep_age"),
            unique_for_seconds=_first(tables, "unique_for") or 0.0,
            rate_limit=_first(tables[:2], "rate_limit"),
            limits=tuple(limit.resolved() for limit in _first(tables[:2], "limits")),
            handlers=_first(tables, "handlers"),
            unknown_job_grace_seconds=_first(tables, "unknown_job_grace"),
            stall_after_seconds=_first(tables, "stall_after"),
        )


RESERVED_TABLES = tuple(name for name, field in Settings.model_fields.items() if field.annotation is Reserved)


def mistakes_between_tables(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and reason of each mistake that only the tables together show."""
    if settings.defaults.backoff.base > settings.defaults.backoff.max:
        yield ("defaults", "backoff"), "base is longer than max"
        return
    for name, resolved in settings.queue_settings().items():
        if resolved.backoff.base_seconds > resolved.backoff.max_seconds:
            yield ("queues", name, "backoff"), "base is longer than max, one of which comes from [defaults]"


def _first(tables: Any, key: str) -> Any:
    """The key's value in the first table that sets it, else the last table's default."""
    for table in tables:
        if key in table.model_fields_set:
            return getattr(table, key)
    return getattr(tables[-1], key)
