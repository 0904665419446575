"""The description of the API is true and whole."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aiohttp import web as aioweb
from openapi_spec_validator import validate

from crmd.http.routes import Access, Route
from tests.support.answers import AnswerCheck
from tests.support.http import Site


async def test_every_route_of_the_api_is_described(web: Site) -> None:
    described = await web.get("/api/v1/openapi.json")
    assert described["openapi"] == "3.1.0"
    routes = {(r.method.lower(), r.path) for r in web.server.routes if r.path.startswith(("/api/v1", "/health"))}
    found = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert routes <= found


async def test_the_document_is_valid(web: Site) -> None:
    validate(await web.get("/api/v1/openapi.json"))


async def test_every_answer_has_a_model(web: Site) -> None:
    described = await web.get("/api/v1/openapi.json")
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    if "json" in media_type:
                        assert "$ref" in content["schema"], (method, path, status)
                        continue
                    assert content["schema"] == {"type": "string"}, (method, path, status)


def test_a_check_of_answers_finds_what_is_not_described() -> None:
    async def handler(request: aioweb.Request) -> aioweb.Response:
        raise NotImplementedError

    check = AnswerCheck(
        [
            Route(
                "GET",
                "/files/{id}",
                handler,
                Access.READ,
                "One file",
                answers={200: "crmd.crm.files.answers:FileAnswer"},
            )
        ]
    )
    whole = {"id": "a", "name": "b", "media_type": "c", "size_bytes": 1, "expires_at": "2030-01-31T12:00:00.000Z"}
    check.check("GET", "/files/a", 200, "application/json", json.dumps(whole))
    check.check("GET", "/files/a/b", 404, "text/plain", "nothing is there")
    for wrong in ({**whole, "more": 1}, {**whole, "name": None}, {"id": "a"}, {**whole, "expires_at": "soon"}):
        with pytest.raises(AssertionError):
            check.check("GET", "/files/a", 200, "application/json", json.dumps(wrong))
    for status, media_type in ((201, "application/json"), (200, "text/plain"), (409, "application/problem+json")):
        with pytest.raises(AssertionError):
            check.check("GET", "/files/a", status, media_type, json.dumps(whole))


async def test_ids_of_rows_are_numbers_and_those_of_files_text(web: Site) -> None:
    described = (await web.get("/api/v1/openapi.json"))["paths"]
    types = {
        path: parameter["schema"]["type"]
        for path, methods in described.items()
        for operation in methods.values()
        for parameter in operation["parameters"]
        if parameter["name"] == "id"
    }
    assert types.pop("/api/v1/files/{id}") == "string"
    assert len(types) == 9
    assert set(types.values()) == {"integer"}


async def test_references_and_names_hold(web: Site) -> None:
    described = await web.get("/api/v1/openapi.json")
    schemas = described["components"]["schemas"]
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(described)):
        assert reference.removeprefix("#/components/schemas/") in schemas
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


async def test_answers_have_described_statuses(crm: Site) -> None:
    described = (await crm.get("/api/v1/openapi.json"))["paths"]
    fill = {"{queue}": "email", "{key}": "nope", "{name}": "nope", "{id}": "1"}
    bodies: list[Any] = [
        None,
        {},
        {"state": "failed"},
        {"rate": "1/s"},
        {"job": "greet", "payload": {"name": "x"}},
        [],
    ]
    for path, methods in described.items():
        if path == "/api/v1/events":
            continue
        real = path
        for name, value in fill.items():
            real = real.replace(name, value)
        for method, operation in methods.items():
            for body in bodies:
                options = {} if body is None else {"json": body}
                status, answer, _ = await crm.call(method.upper(), real, **options)
                assert str(status) in operation["responses"], (method, path, body, status, answer)
                assert status < 500


async def test_the_page_for_people_comes_from_us_alone(web: Site) -> None:
    _, page, headers = await web.call("GET", "/api/docs")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "http" not in page.replace("http-equiv", "")
    for link in re.findall(r'(?:href|src)="(/[^"]+)"', page):
        assert (await web.call("GET", link))[0] == 200, link
