"""The page that shows what arrived, and the calls below `/_sandbox` that control the stand-ins."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crmd.sandbox.faults import Fault, Faults
from crmd.sandbox.journal import Journal, Kind
from crmd.sandbox.settings import Addresses, SandboxSettings
from crmd.sandbox.statuses import StatusPlan
from crmd.sandbox.users import Inbound, OtherNumber, Preference
from crmd.sandbox.whatsapp import CloudApi

Model = TypeVar("Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PREFIX = "/_sandbox"
PING_SECONDS = 15.0
PAGE = "sandbox.html"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class TellStatus(BaseModel):
    """One status, told now."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["sent", "delivered", "read", "failed"]
    code: Annotated[int, Field(ge=0)] | None = None


class Admin:
    """Page, journal and controls."""

    def __init__(self, settings: SandboxSettings, journal: Journal, faults: Faults, api: CloudApi) -> None:
        self.addresses: Addresses | None = None
        self._settings = settings
        self._journal = journal
        self._faults = faults
        self._api = api
        folder = resources.files("crmd.sandbox").joinpath("static")
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    def routes(self) -> list[web.RouteDef]:
        """What this part answers."""
        return [
            web.get("/", self.page),
            web.get(PREFIX + "/static/{file}", self.file),
            web.get(PREFIX + "/journal", self.journal),
            web.delete(PREFIX + "/journal", _own(self.forget)),
            web.get(PREFIX + "/events", self.events),
            web.get(PREFIX + "/settings", self.settings),
            web.post(PREFIX + "/inbound", _own(self.inbound)),
            web.post(PREFIX + "/preferences", _own(self.preferences)),
            web.post(PREFIX + "/numbers", _own(self.numbers)),
            web.get(PREFIX + "/faults", self.faults),
            web.post(PREFIX + "/faults", _own(self.add_fault)),
            web.delete(PREFIX + "/faults", _own(self.clear_faults)),
            web.get(PREFIX + "/statuses", self.plan),
            web.put(PREFIX + "/statuses", _own(self.change_plan)),
            web.post(PREFIX + "/messages/{wamid}/status", _own(self.tell_status)),
        ]

    async def page(self, _request: web.Request) -> web.Response:
        """The page."""
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
        return web.Response(body=self._files[PAGE], content_type="text/html", charset="utf-8", headers=headers)

    async def file(self, request: web.Request) -> web.Response:
        """A file of the page."""
        name = request.match_info["file"]
        if name not in self._files:
            raise web.HTTPNotFound
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Cache-Control": "no-cache"}
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=headers)

    async def journal(self, request: web.Request) -> web.Response:
        """All that is kept, or one kind of it by `?kind=`."""
        kind = request.query.get("kind")
        if kind is None:
            return web.json_response(self._journal.snapshot() | self._state())
        if kind not in set(Kind):
            return _problem(f"kind must be one of {', '.join(Kind)}")
        return web.json_response({"entries": [entry.json() for entry in self._journal.entries(Kind(kind))]})

    async def forget(self, _request: web.Request) -> web.Response:
        """Empties the journal."""
        self._journal.clear()
        return web.json_response(self._state())

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Each change as it happens, as server-sent events."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        try:
            with self._journal.watch() as changes:
                await _send(response, {"reload": True})
                while "end" not in (change := await _next(changes)):
                    await _send(response, change | self._state())
        except ConnectionError:
            pass  # the page was closed
        return response

    async def settings(self, _request: web.Request) -> web.Response:
        """How to point crmd at the stand-ins."""
        if self.addresses is None:
            raise web.HTTPServiceUnavailable
        return web.json_response(
            {
                "url": self.addresses.url,
                "smtp": f"{self.addresses.host}:{self.addresses.smtp_port}",
                "hooks": self.addresses.hooks_url,
                "callback": self._settings.callback_url,
                "environment": self.addresses.environment(self._settings),
            }
        )

    async def inbound(self, request: web.Request) -> web.Response:
        """A message of a user, sent to the callback."""
        entry = self._api.users.write(await _read(request, Inbound))
        return web.json_response(entry.json(), status=202)

    async def preferences(self, request: web.Request) -> web.Response:
        """What a user chooses about marketing, sent to the callback."""
        preference = await _read(request, Preference)
        self._api.users.choose(preference)
        return web.json_response({"value": preference.value}, status=202)

    async def numbers(self, request: web.Request) -> web.Response:
        """A number that WhatsApp has in another form from now on."""
        other = await _read(request, OtherNumber)
        self._api.users.know_as(other)
        return web.json_response(other.model_dump())

    async def faults(self, _request: web.Request) -> web.Response:
        """The faults that are still to come."""
        return web.json_response({"faults": self._faults.pending()})

    async def add_fault(self, request: web.Request) -> web.Response:
        """One more fault."""
        self._faults.add(await _read(request, Fault))
        return web.json_response({"faults": self._faults.pending()}, status=201)

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """No faults any more; requests that are held are let go."""
        self._faults.clear()
        return web.json_response({"faults": []})

    async def plan(self, _request: web.Request) -> web.Response:
        """How statuses come."""
        return web.json_response(self._api.statuses.plan.model_dump(mode="json"))

    async def change_plan(self, request: web.Request) -> web.Response:
        """How statuses come from now on; what is not given stays as the plan's defaults have it."""
        self._api.statuses.plan = await _read(request, StatusPlan)
        return await self.plan(request)

    async def tell_status(self, request: web.Request) -> web.Response:
        """One status of one message, told now, whatever came before."""
        entry = self._api.find(request.match_info["wamid"])
        if entry is None:
            return _problem("no accepted message that is still kept has this id", status=404)
        wanted = await _read(request, TellStatus)
        taken = await self._api.statuses.tell(entry, wanted.status, code=wanted.code)
        return web.json_response({"taken": taken})

    def _state(self) -> dict[str, Any]:
        callback = self._api.callback
        return {
            "callback": {
                "url": callback.url,
                "state": callback.state,
                "delivered": callback.delivered,
                "refused": callback.refused,
            },
            "faults": self._faults.pending(),
        }


def _own(handler: Handler) -> Handler:
    """Refuses what pages of other sites make a browser do, and says plainly what is wrong with a body."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _problem("requests of other sites are refused", status=403)
        try:
            return await handler(request)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return _problem(f"{where}: {first['msg']}" if where else first["msg"])
        except ValueError as error:
            return _problem(str(error))

    return handle


async def _read(request: web.Request, model: type[Model]) -> Model:
    return model.model_validate_json(await request.read())


async def _next(changes: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
    """The next change; an empty one now and then, so that a page that left is noticed."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            return await changes.get()
    except TimeoutError:
        return {}


async def _send(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())


def _problem(message: str, status: int = 422) -> web.Response:
    return web.json_response({"error": message}, status=status)
