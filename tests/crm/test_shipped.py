"""The catalog of shipped jobs, and what all their payloads must keep to."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from saq.job import Job

from crmd.config.shipped import SHIPPED_QUEUES
from crmd.crm.catalog import shipped_catalog
from crmd.jobs import JobSpec

SHIPPED = [(queue, name) for queue in SHIPPED_QUEUES for name in shipped_catalog().names(queue)]


def spec_and_model(queue: str, name: str) -> tuple[JobSpec, type[BaseModel]]:
    spec = shipped_catalog().get(queue, name)
    assert spec.payload is not None
    return spec, spec.payload


def test_a_catalog_is_new_each_time() -> None:
    catalog = shipped_catalog()
    catalog.add("message", JobSpec("extra", "message", print))
    assert shipped_catalog().names("message") == ["send_message"]


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_job_knows_its_queue_and_runs_in_the_loop(queue: str, name: str) -> None:
    spec, _ = spec_and_model(queue, name)
    assert spec.queue == queue
    assert spec.is_async


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_no_field_is_named_like_one_of_saq(queue: str, name: str) -> None:
    # SAQ's enqueue(**kwargs) takes such an argument for the job's own field
    _, model = spec_and_model(queue, name)
    names = {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)
    assert names & set(Job.__dataclass_fields__) == set()


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_models_are_closed_and_have_a_schema(queue: str, name: str) -> None:
    _, model = spec_and_model(queue, name)
    assert model.model_json_schema()["additionalProperties"] is False
