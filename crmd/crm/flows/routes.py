"""Flows over HTTP: put, show and delete definitions; show and cancel runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from crmd.crm.api import ApiParts
from crmd.crm.contacts.phones import Phone
from crmd.crm.database.database import Database, database_bounded
from crmd.crm.database.types import rfc3339
from crmd.crm.flows import repository as flows
from crmd.crm.flows.definition import FlowDefinition, FlowName, check_flow
from crmd.crm.flows.repository import FlowView, RunState, RunView
from crmd.errors import IllegalTransition, RequestError
from crmd.http import schema
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route, Success

_ANSWERS = "crmd.crm.flows.answers"

_FLOWS = "/api/v1/flows"
_ONE = f"{_FLOWS}/{{name}}"
_RUNS = f"{_ONE}/runs"
CANCELLED = "cancelled"
_WAITING = (RunState.WAITING, RunState.WAITING_FOR_REPLY)


class RunsQuery(schema.PageQuery):
    """A page of runs."""

    state: RunState | None = None
    phone: Phone | None = Field(None, description="Of this contact: E.164; the plus may be left out.")


class FlowBody(FlowDefinition):
    """A flow's definition; its name may be left to the path."""

    name: Annotated[FlowName, Field(default_factory=str, description="May be left out, as the path says it.")]


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/flows`."""
    return FlowsApi(parts.get(Database)).routes()


class FlowsApi:
    """Answers under `/api/v1/flows`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[Route]:
        """The routes of this group."""
        read, operate = Access.READ, Access.OPERATE
        return [
            Route(
                *("GET", _FLOWS, self.list_flows, read, "A page of flows"),
                query=schema.PageQuery,
                answers={200: f"{_ANSWERS}:FlowsPageAnswer"},
                errors=(422, 503),
            ),
            Route(
                *("GET", _ONE, self.get_flow, read, "One flow with its definition"),
                answers={200: f"{_ANSWERS}:FlowAnswer"},
                errors=(404, 503),
            ),
            Route(
                *("PUT", _ONE, self.put, operate, "Checks a definition and stores it; runs under way keep theirs"),
                body=FlowBody,
                answers={
                    200: Success("Replaced.", f"{_ANSWERS}:FlowAnswer"),
                    201: Success("Stored.", f"{_ANSWERS}:FlowAnswer"),
                },
                errors=(408, 413, 415, 422, 503),
            ),
            Route(
                *("DELETE", _ONE, self.delete, operate, "Deletes a flow and its runs, also those under way"),
                answers={204: Success("Deleted.")},
                errors=(404, 503),
            ),
            Route(
                *("GET", _RUNS, self.list_runs, read, "A page of a flow's runs, the newest first"),
                query=RunsQuery,
                answers={200: f"{_ANSWERS}:FlowRunsPageAnswer"},
                errors=(404, 422, 503),
            ),
            Route(
                *("GET", f"{_RUNS}/{{id}}", self.get_run, read, "One run"),
                row_id=True,
                answers={200: f"{_ANSWERS}:FlowRunAnswer"},
                errors=(404, 503),
            ),
            Route(
                *("POST", f"{_RUNS}/{{id}}/cancel", self.cancel, operate, "Ends a run: it takes no further step"),
                row_id=True,
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:FlowRunAnswer"},
                errors=(404, 408, 409, 413, 415, 422, 503),
            ),
        ]

    async def list_flows(self, request: web.Request) -> web.Response:
        """A page of flows, without their steps."""
        asked = schema.query(request, schema.PageQuery)
        after = schema.read_cursor(asked.cursor)
        async with database_bounded(), self._database.reading() as s:
            found = await flows.page(s, after, asked.limit + 1)
        cursor = schema.write_cursor(found[asked.limit - 1].flow.id) if len(found) > asked.limit else None
        return web.json_response({"flows": [_json(one) for one in found[: asked.limit]], "cursor": cursor})

    async def get_flow(self, request: web.Request) -> web.Response:
        """One flow."""
        found = await self._named(request)
        return web.json_response({**_json(found), "definition": found.flow.definition})

    async def put(self, request: web.Request) -> web.Response:
        """Validates a definition and stores it."""
        name, data = request.match_info["name"], await schema.json_body(request)
        # Checking a large definition with many templates takes a tenth of a second.
        definition = await asyncio.to_thread(check_flow, data, name)
        async with database_bounded(), self._database.transaction() as s:
            try:
                created = await flows.put(s, name, {"name": name, **data}, enabled=definition.enabled)
            except ValueError as error:
                raise RequestError(str(error)) from None
        found = await self._named(request)
        body = {**_json(found), "definition": found.flow.definition}
        return web.json_response(body, status=201 if created else 200)

    async def delete(self, request: web.Request) -> web.Response:
        """Deletes a flow."""
        name = request.match_info["name"]
        async with database_bounded(), self._database.transaction() as s:
            found = await flows.remove(s, name)
        if not found:
            raise _no_flow(name)
        return web.Response(status=204)

    async def list_runs(self, request: web.Request) -> web.Response:
        """A page of runs."""
        asked, flow = schema.query(request, RunsQuery), (await self._named(request)).flow
        before, states = schema.read_cursor(asked.cursor), () if asked.state is None else (asked.state,)
        async with database_bounded(), self._database.reading() as s:
            found = await flows.runs(
                s, flow.id, states=states, phone=asked.phone, before=before, limit=asked.limit + 1
            )
        return schema.page("runs", [_run_json(one) for one in found], asked.limit)

    async def get_run(self, request: web.Request) -> web.Response:
        """One run."""
        return web.json_response(_run_json(await self._named_run(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """Ends a run."""
        body = await schema.body(request, schema.ReasonBody)
        found = await self._named_run(request)
        async with database_bounded(), self._database.transaction() as s:
            cancelled = await flows.cancel(s, found.run.id, body.reason or CANCELLED)
        if not cancelled:
            state = (await self._named_run(request)).run.state
            raise IllegalTransition(f"run {found.run.id} is {state}; only runs under way are cancelled")
        return web.json_response(_run_json(await self._named_run(request)))

    async def _named(self, request: web.Request) -> FlowView:
        name = request.match_info["name"]
        async with database_bounded(), self._database.reading() as s:
            found = await flows.view(s, name)
        if found is None:
            raise _no_flow(name)
        return found

    async def _named_run(self, request: web.Request) -> RunView:
        name, number = request.match_info["name"], schema.row_id(request.match_info["id"], "run")
        async with database_bounded(), self._database.reading() as s:
            found = await flows.run_view(s, name, number)
        if found is None:
            raise HttpProblem(404, f"flow {name} has no run {number}")
        return found


def _no_flow(name: str) -> HttpProblem:
    return HttpProblem(404, f'there is no flow "{name}"')


def _json(view: FlowView) -> dict[str, Any]:
    """A flow without its steps."""
    flow = view.flow
    return {
        "name": flow.name,
        "description": flow.definition.get("description", ""),
        "enabled": flow.enabled,
        "start": flow.definition.get("start", {"on": "manual"}),
        "steps": len(flow.definition["steps"]),
        "live_runs": view.live_runs,
        "created_at": rfc3339(flow.created_at),
        "updated_at": rfc3339(flow.updated_at),
    }


def _run_json(view: RunView) -> dict[str, Any]:
    """A run of a flow."""
    run = view.run
    return {
        "id": run.id,
        "phone": view.phone,
        "contact_id": run.contact_id,
        "state": run.state,
        "step": run.step,
        "count": run.count,
        "reply": run.data.get("reply"),
        "saved": run.data.get("saved", {}),
        "error": run.error,
        "wake_at": rfc3339(run.wake_at) if run.state in _WAITING else None,
        "created_at": rfc3339(run.created_at),
        "updated_at": rfc3339(run.updated_at),
    }
