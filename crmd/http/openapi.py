"""The description of the API, made from its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from crmd.http.routes import Access, Route

_PARAMETER = re.compile(r"{(\w+)}")
_PROBLEM_TEXT = {
    400: "The request is malformed.",
    401: "No credentials, or wrong ones.",
    403: "The credentials do not allow it, or a browser sent it from another site.",
    404: "There is no such queue, job, file, contact, message, campaign or flow.",
    408: "The body did not come in time.",
    409: "The job's state does not allow it.",
    412: "The file is not the one that the request is about.",
    413: "The body is over 8 MiB, a job over 256 KiB, or a file over `files.max_bytes`.",
    415: "The body is not declared as JSON.",
    416: "The file has no such part.",
    421: "The Host header names another host.",
    422: "The request is understood and wrong; `errors` lists why.",
    429: "Too many failed logins, or the quota of uploads is used up; see Retry-After.",
    500: "An error inside crmd; the log has it under `id`.",
    503: "The store, or the database of the records, is away.",
    507: "The store, or the disk of the files, takes no more.",
}
_BYTES = {"type": "string", "format": "binary"}
_FILE_BODY = {
    "application/octet-stream": {"schema": _BYTES},
    "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _BYTES}}},
}
_ANSWER_TYPES = {
    "/metrics": "text/plain",
    "/api/v1/events": "text/event-stream",
    "/api/v1/files/{id}": "application/octet-stream",
}
"""Of what answers no JSON, by path."""
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "id": {"type": "string", "description": "The log has it too."},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


class Description:
    """Answers `/api/v1/openapi.json`, which describes the routes given and itself."""

    def __init__(self, routes: Sequence[Route], prefix: str, version: str) -> None:
        self._described = [*routes, *self.routes()]
        self._prefix = prefix
        self._version = version
        self._document: bytes | None = None

    def routes(self) -> list[Route]:
        """What this part answers."""
        return [
            Route(
                *("GET", "/api/v1/openapi.json", self.openapi, Access.READ, "This description"),
                for_any_queue=True,
            )
        ]

    async def openapi(self, request: web.Request) -> web.Response:
        """The description as OpenAPI 3.1."""
        if self._document is None:
            self._document = json.dumps(describe(self._described, self._prefix, self._version)).encode()
        return web.Response(body=self._document, content_type="application/json", charset="utf-8")


def describe(routes: Iterable[Route], prefix: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of those routes that have a summary."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.summary:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "crmd", "version": version, "description": "Background jobs of a CRM, in ten queues."},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": getattr(route.handler, "__qualname__", route.path).replace(".", "_"),
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route, schemas),
            *_header_parameters(route),
        ],
        "responses": {**_answers(route), **_problems(route)},
        "security": [] if route.access is Access.OPEN else [{"basic": []}, {"token": []}],
    }
    if route.access is not Access.OPEN:
        operation["description"] = f"Scope of a token: {route.access.scope}."
    if route.any_body:
        operation["requestBody"] = {"required": True, "content": _FILE_BODY}
    if route.body:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {"application/json": {"schema": _body_schema(route.body, schemas)}},
        }
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    properties = _collected(route.query, schemas)["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]


def _body_schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schemas[model.__name__] = _collected(model, schemas)
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    if model.__name__ != "JobBody":
        return reference
    many = {"type": "array", "minItems": 1, "maxItems": 1000, "items": reference}
    return {
        "oneOf": [
            reference,
            {"type": "object", "required": ["jobs"], "additionalProperties": False, "properties": {"jobs": many}},
        ]
    }


def _collected(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    """The model's schema; what it refers to goes into `schemas`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    return schema


def _answers(route: Route) -> dict[str, Any]:
    kind = _ANSWER_TYPES.get(route.path, "application/json")
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    return {
        str(status): {
            "description": text,
            **({} if status in (204, 304) else {"content": {kind: {"schema": schema}}}),
        }
        for status, text in route.answers.items()
    }


def _problems(route: Route) -> dict[str, Any]:
    statuses = {*route.errors, 500}
    if route.access is not Access.OPEN:
        statuses |= {400, 401, 403, 421, 429}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {
            "description": _PROBLEM_TEXT[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in sorted(statuses - set(route.answers))
    }
