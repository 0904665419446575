"""What the features declare by module path is there and whole, and what all shipped payloads must keep to."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import click
import pytest
from pydantic import BaseModel
from saq.job import Job

import crmd.crm
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.crm.catalog import shipped_catalog
from crmd.crm.features import FEATURES, commands, forgetting, load, routes
from crmd.jobs import JobSpec, spec_of

JOBS = {
    (queue, reference)
    for feature in FEATURES
    for queue, references in feature.jobs.items()
    for reference in references
}


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(crmd.crm.__path__, "crmd.crm."):
        if not found.name.endswith("_child") and "migrations" not in found.name:  # those run when imported
            yield importlib.import_module(found.name)


@pytest.mark.parametrize(("queue", "reference"), sorted(JOBS))
def test_a_job_has_the_name_of_its_function_and_its_own_queue(queue: str, reference: str) -> None:
    spec = spec_of(load(reference))
    assert spec is not None
    assert (spec.queue, spec.name) == (queue, reference.partition(":")[2])
    assert shipped_catalog().get(queue, spec.name) == spec


def test_every_job_is_declared() -> None:
    marked = {
        (spec.queue, f"{module.__name__}:{name}")
        for module in modules()
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        if function.__module__ == module.__name__ and (spec := spec_of(function)) is not None
    }
    assert marked == JOBS


def test_every_command_is_declared() -> None:
    found = list(map(load, commands()))
    assert all(isinstance(command, click.Command) for command in found)
    assert [command.name for command in found] == list(dict.fromkeys(command.name for command in found))
    there = {module.__name__ for module in modules() if module.__name__.endswith(".commands")}
    assert {one.partition(":")[0] for feature in FEATURES for one in feature.commands} == there


def test_every_module_of_routes_is_declared() -> None:
    made = routes().values()
    assert all(inspect.isfunction(load(reference)) for reference in made)
    there = {module.__name__ for module in modules() if module.__name__.endswith(".routes")}
    assert {reference.partition(":")[0] for reference in made} == there


def test_every_module_of_tables_is_declared() -> None:
    there = {module.__name__ for module in modules() if module.__name__.endswith(".tables")}
    assert {feature.tables for feature in FEATURES if feature.tables} == there


def test_what_forgets_a_contact_is_there() -> None:
    assert all(inspect.iscoroutinefunction(forget_it) for forget_it in forgetting())
    assert len(forgetting()) == 3


# The catalog


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
