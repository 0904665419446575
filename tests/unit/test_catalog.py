"""Which jobs a queue knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crmd.crm.catalog import shipped_catalog
from crmd.errors import UnknownJob
from crmd.jobs import Catalog

SOURCE = """
from crmd import job

@job(queue="email")
async def greet(ctx, payload): ...

@job(queue="ai", name="both")
async def for_ai(ctx, payload): ...

@job(queue="email", name="both")
async def for_email(ctx, payload): ...

@job(queue="ai", name="send_email")
async def other(ctx, payload): ...

async def plain(ctx): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of somebody's handlers."""
    (tmp_path / "handlers_of_a_test.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "handlers_of_a_test"
    del sys.modules["handlers_of_a_test"]


def test_a_module_gives_a_queue_all_its_jobs(module: str) -> None:
    catalog = Catalog()
    catalog.add_reference("notification", module)
    assert catalog.names("notification") == ["both", "greet", "send_email"]
    assert catalog.names("email") == []


def test_of_two_jobs_of_one_name_the_one_meant_for_the_queue_is_known(module: str) -> None:
    catalog = Catalog()
    for queue in ("ai", "email"):
        catalog.add_reference(queue, module)
        assert catalog.get(queue, "both").queue == queue


def test_a_job_meant_for_another_queue_replaces_no_shipped_one(module: str) -> None:
    catalog = shipped_catalog()
    shipped = catalog.get("email", "send_email")
    catalog.add_reference("email", module)
    assert catalog.get("email", "send_email") is shipped
    catalog.add_reference("email", f"{module}:other")
    assert catalog.get("email", "send_email").function.__name__ == "other"


def test_a_named_function_needs_no_mark(module: str) -> None:
    catalog = Catalog()
    catalog.add_reference("email", f"{module}:plain")
    assert catalog.get("email", "plain").plain
    with pytest.raises(UnknownJob):
        catalog.get("email", "greet")
