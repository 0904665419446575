"""The shipped queues and schedules, written as in `config.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHIPPED_QUEUES: Mapping[str, Mapping[str, Any]] = {
    "message": {
        "rate_limit": "20/min",
        "limits": [{"by": "to", "rate": "1/6s", "burst": 45}],
        "unique_for": "24h",
    },
    "campaign": {"timeout": "1h", "attempts": 2, "unique_for": "24h"},
    "flow": {"timeout": "5m"},
    "email": {"attempts": 5, "unique_for": "24h"},
    "webhook": {"attempts": 5},
    "ai": {"timeout": "5m", "attempts": 2},
    "import": {"timeout": "10m", "attempts": 1},
    "export": {"timeout": "5m", "attempts": 2},
    "analytics": {"timeout": "10m", "attempts": 2},
    "notification": {},
}
"""The queues, each with what differs from `[defaults]`."""

SHIPPED_SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "hourly_snapshot": {
        "queue": "analytics",
        "job": "snapshot",
        "cron": "2 * * * *",
        "payload": {"period": "hour", "again": 24},
    },
    "daily_snapshot": {
        "queue": "analytics",
        "job": "snapshot",
        "cron": "5 0 * * *",
        "payload": {"period": "day", "again": 3},
    },
    "flow_sweep": {"queue": "flow", "job": "sweep_flows", "cron": "*/5 * * * *", "missed": "skip"},
}
