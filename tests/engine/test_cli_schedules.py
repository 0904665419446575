"""`crmd schedules` on a real store."""

from __future__ import annotations

import re

from crmd.errors import ExitCode
from tests.support.cli import Cli, cli, store_cli

__all__ = ["cli", "store_cli"]


def listed(cli: Cli) -> dict[str, dict[str, object]]:
    return {view["name"]: view for view in cli("schedules", "--json").json}


def test_it_lists_the_shipped_schedules_with_their_next_runs(store_cli: Cli) -> None:
    done = store_cli("schedules")
    assert done.code == 0
    assert re.search(r"^daily_snapshot +analytics +snapshot +5 0 \* \* \* UTC +in ", done.out, re.M)
    views = listed(store_cli)
    assert list(views) == ["daily_snapshot", "flow_sweep", "hourly_snapshot"]
    assert str(views["hourly_snapshot"]["next_run_at"])[14:] == "02:00.000Z"


def test_it_runs_one_now(store_cli: Cli) -> None:
    done = store_cli("schedules", "run", "daily_snapshot")
    job = store_cli("job", "analytics", done.out.strip(), "--json").json
    assert (job["job"], job["payload"], job["state"]) == ("snapshot", {"period": "day", "again": 3}, "waiting")
    view = listed(store_cli)["daily_snapshot"]
    assert (view["last_key"], view["last_state"]) == (job["key"], "waiting")
    assert f"{job['key']} (waiting)" in store_cli("schedules").out


def test_it_pauses_and_resumes_one(store_cli: Cli) -> None:
    paused = store_cli("schedules", "pause", "hourly_snapshot", "--reason", "the database moves")
    assert paused.out == "hourly_snapshot: paused\n"
    view = listed(store_cli)["hourly_snapshot"]
    assert (view["paused"], view["paused_reason"], view["next_run_at"]) == (True, "the database moves", None)
    assert ": the database moves" in store_cli("schedules").out
    assert store_cli("schedules", "resume", "hourly_snapshot", "--json").json["paused"] is False
    assert listed(store_cli)["hourly_snapshot"]["next_run_at"]


def test_a_wrong_name_and_a_switched_off_one(store_cli: Cli) -> None:
    done = store_cli("schedules", "run", "dayly_snapshot")
    assert (done.code, done.complaint) == (
        ExitCode.FAILED,
        "no schedule is named 'dayly_snapshot'; did you mean daily_snapshot?",
    )
    with store_cli.config.open("a") as file:
        file.write("\n[schedules.daily_snapshot]\nenabled = false\n")
    assert "switched off" in store_cli("schedules").out
