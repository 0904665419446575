"""Builds the OpenAPI document from the routes."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from crmd.http.late_routes import LateRoutes
from crmd.http.routes import Access, Route, Success

_PARAMETER = re.compile(r"{(\w+)}")
_PROBLEM_TEXT = {
    400: "The request is malformed.",
    401: "No credentials, or wrong ones.",
    403: "The credentials do not allow it, or a browser sent the request from another site.",
    404: "There is no such queue, job, file, contact, message, campaign or flow.",
    408: "The body did not come in time.",
    409: "The job's state does not allow it.",
    412: "The file is not the one that the request's conditions name.",
    413: "The body is over 8 MiB, a job over 256 KiB, or a file over `files.max_bytes`.",
    415: "The body is not declared as JSON, or it is compressed.",
    416: "The file has no such range.",
    421: "The Host header names another host.",
    422: "The request is understood, but its content is wrong; `errors` lists why.",
    429: "Too many failed logins, or the upload quota is used up; see Retry-After.",
    500: "An error inside crmd; the log has it under `id`.",
    503: "The store or the database is unavailable.",
    507: "The store, or the disk for files, is full.",
}
_BYTES = {"type": "string", "format": "binary"}
_FILE_BODY = {
    "application/octet-stream": {"schema": _BYTES},
    "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BYTES}}},
}
_CREDENTIALS: list[dict[str, list[str]]] = [{"basic": []}, {"token": []}]
_SECURITY = {Access.OPEN: [], Access.SUMMARY: [*_CREDENTIALS, {}]}
_PROBLEM = "crmd.http.answers:ProblemAnswer"
_REFERENCE = "#/components/schemas/{model}"
_Asked = tuple[type[BaseModel], Literal["validation", "serialization"]]


class Description:
    """Answers `/api/v1/openapi.json`, which describes the given routes and itself."""

    def __init__(self, routes: Sequence[Route], late: Sequence[LateRoutes], prefix: str, version: str) -> None:
        self._described = [*routes, *self.routes()]
        self._late = late
        self._prefix = prefix
        self._version = version
        self._document: bytes | None = None

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("GET", "/api/v1/openapi.json", self.openapi, Access.READ, "This description"),
                answers={200: "crmd.http.answers:OpenApiAnswer"},
                for_any_queue=True,
            )
        ]

    async def openapi(self, request: web.Request) -> web.Response:
        """The OpenAPI 3.1 document."""
        if self._document is None:
            late = [route for routes in self._late for route in await routes.routes()]
            self._document = json.dumps(describe([*self._described, *late], self._prefix, self._version)).encode()
        return web.Response(body=self._document, content_type="application/json", charset="utf-8")


def describe(routes: Iterable[Route], prefix: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of the routes that have a summary."""
    described = [route for route in routes if route.summary]
    schemas = _Schemas(described)
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "crmd", "version": version, "description": "Background jobs of a CRM, in ten queues."},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


class _Schemas:
    """The schemas of all models, built together so that each has one name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        asked: dict[_Asked, None] = {(model_of(_PROBLEM), "serialization"): None}
        for route in routes:
            asked |= {(model, "validation"): None for model in (route.body, route.query) if model}
            for answer in route.answers.values():
                if model := _success(answer).body:
                    asked[model_of(model), "serialization"] = None
        self._references, definitions = models_json_schema(list(asked), ref_template=_REFERENCE)
        self.components: dict[str, Any] = definitions["$defs"]

    def of_body(self, model: type[BaseModel]) -> dict[str, Any]:
        """A reference to the schema of a request body."""
        return self._references[model, "validation"]

    def of_answer(self, model: type[BaseModel]) -> dict[str, Any]:
        """A reference to the schema of an answer."""
        return self._references[model, "serialization"]

    def of_query(self, model: type[BaseModel]) -> dict[str, Any]:
        """The schema of each query parameter, without null, which a query cannot express."""
        name = self._references[model, "validation"]["$ref"].rpartition("/")[2]
        properties = self.components.pop(name, None) or model.model_json_schema(ref_template=_REFERENCE)
        return {name: _without_null(schema) for name, schema in properties["properties"].items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(choices) != 1:
        return schema
    outer = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**choices[0], **outer}


def _success(answer: Success | str) -> Success:
    if isinstance(answer, Success):
        return answer
    return Success((model_of(answer).__doc__ or "").partition("\n")[0], answer)


def model_of(name: str) -> type[BaseModel]:
    """Imports the model that is named as `module:Class`."""
    return cast(type[BaseModel], pkgutil.resolve_name(name))


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": getattr(route.handler, "__qualname__", route.path).replace(".", "_"),
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route, schemas),
            *_header_parameters(route),
        ],
        "responses": {**_answers(route, schemas), **_problems(route, schemas)},
        "security": _SECURITY.get(route.access, _CREDENTIALS),
    }
    if route.access is not Access.OPEN:
        operation["description"] = f"Scope of a token: {route.access.scope}."
    if route.any_body:
        operation["requestBody"] = {"required": True, "content": _FILE_BODY}
    if route.body:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {"application/json": {"schema": schemas.of_body(route.body)}},
        }
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if name == "id" and route.row_id else "string"},
        }
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    found = schemas.of_query(route.query) if route.query else {}
    return [{"name": name, "in": "query", "schema": schema} for name, schema in found.items()]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]


def _answers(route: Route, schemas: _Schemas) -> dict[str, Any]:
    return {str(status): _answer(_success(answer), schemas) for status, answer in route.answers.items()}


def _answer(answer: Success, schemas: _Schemas) -> dict[str, Any]:
    if answer.body:
        schema = schemas.of_answer(model_of(answer.body))
    elif answer.media_type == "application/json":
        return {"description": answer.meaning}
    else:
        schema = {"type": "string"}
    return {"description": answer.meaning, "content": {answer.media_type: {"schema": schema}}}


def _problems(route: Route, schemas: _Schemas) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": schemas.of_answer(model_of(_PROBLEM))}}
    return {
        str(status): {"description": _PROBLEM_TEXT[status], "content": content}
        for status in sorted(problem_statuses(route))
    }


def problem_statuses(route: Route) -> set[int]:
    """The statuses of the problems that a route may answer with."""
    statuses = {*route.errors, 500}
    if route.access is not Access.OPEN:
        statuses |= {400, 401, 403, 421, 429}
    return statuses - set(route.answers)
