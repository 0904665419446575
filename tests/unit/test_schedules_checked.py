"""A schedule's job and payload are checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from crmd import JobContext, job
from crmd.config.shipped import SHIPPED_SCHEDULES
from crmd.crm.catalog import shipped_catalog
from crmd.daemon.build import build_catalog
from crmd.errors import ConfigError
from tests.support.config import ConfigBench


def mistakes(folder: Path, text: str) -> list[str]:
    config = ConfigBench(folder)
    try:
        build_catalog(config.load(text))
    except ConfigError as error:
        return [str(problem).removeprefix(f"{config.file}: ") for problem in error.problems]
    return []


def test_the_shipped_schedules_are_right(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "") == []
    for schedule in SHIPPED_SCHEDULES.values():
        shipped_catalog().get(schedule["queue"], schedule["job"]).validate(schedule.get("payload", {}))


def test_a_shipped_schedule_is_checked_where_a_handler_took_the_place_of_its_job(tmp_path: Path) -> None:
    [found] = mistakes(tmp_path, f"[queues.flow]\nhandlers = ['{__name__}:sweep_flows']")
    assert found.startswith("schedules.flow_sweep.payload: payload of sweep_flows is invalid: depth:")


class Depth(BaseModel):
    depth: int


@job(queue="flow", payload=Depth)
async def sweep_flows(ctx: JobContext, payload: Depth) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue = 'notification'\njob = 'notfy'", "schedules.a.job: queue notification has no job 'notfy'"),
        ("queue = 'analytics'\njob = 'snapshot'", "schedules.a.payload: payload of snapshot is invalid: period:"),
        (
            "queue = 'analytics'\njob = 'snapshot'\npayload = { period = 'week' }",
            "schedules.a.payload: payload of snapshot is invalid: period:",
        ),
    ],
)
def test_mistakes_name_the_schedule(tmp_path: Path, text: str, expected: str) -> None:
    [found] = mistakes(tmp_path, f"[schedules.a]\n{text}\nevery = '1h'")
    assert found.startswith(expected)


def test_a_switched_off_schedule_is_not_checked(tmp_path: Path) -> None:
    off = "[schedules.a]\nenabled = false\nqueue = 'notification'\njob = 'gone'\nevery = '1h'"
    assert mistakes(tmp_path, off) == []


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    bad = "queue = 'notification'\njob = 'gone'\nevery = '1h'"
    assert len(mistakes(tmp_path, f"[schedules.a]\n{bad}\n[schedules.b]\n{bad}")) == 2
