"""The sandbox: all stand-ins together, started and stopped as one."""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from crmd.errors import PortTaken
from crmd.sandbox import mails
from crmd.sandbox.admin import Admin
from crmd.sandbox.faults import Faults
from crmd.sandbox.hooks import Hooks
from crmd.sandbox.journal import Journal
from crmd.sandbox.openai import AiService
from crmd.sandbox.settings import Addresses, SandboxSettings
from crmd.sandbox.smtp import SmtpSink
from crmd.sandbox.whatsapp import CloudApi

MAX_BODY_BYTES = 32 * 1024 * 1024
SHUTDOWN_SECONDS = 0.5

OnRequest = Callable[[web.Request, bytes], None]


class Sandbox:
    """The Cloud API, a mail server, a webhook receiver and an AI service, on one HTTP port and one for mail.

    `clock` is epoch seconds, for WhatsApp's rules and what its webhooks tell. `on_request` is told of each HTTP
    request and its body before it is answered.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        clock: Callable[[], float] = time.time,
        on_request: OnRequest | None = None,
    ) -> None:
        self.settings = settings or SandboxSettings()
        self.journal = Journal(self.settings.keep, clock)
        self.faults = Faults(self.journal.touch)
        self.whatsapp = CloudApi(self.settings, self.journal, self.faults, clock)
        self._hooks = Hooks(self.settings.webhook_secret, self.journal, self.faults)
        self._ai = AiService(self.settings.ai_key, self.journal, self.faults)
        self._smtp = SmtpSink(functools.partial(mails.keep, self.journal), self.faults, self.settings)
        self._admin = Admin(self.settings, self.journal, self.faults, self.whatsapp)
        self._on_request = on_request
        self._runner: web.AppRunner | None = None

    async def start(self) -> Addresses:
        """Listens, and begins to verify the callback. Raises PortTaken."""
        if self._runner is None:
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
            self._runner = runner
            try:
                await self._listen(runner)
                await self._smtp.start(self.settings.host, self.settings.smtp_port)
            except BaseException:
                await self.stop()
                raise
            self._admin.addresses = self.addresses
            await self.whatsapp.start()
        return self.addresses

    async def stop(self) -> None:
        """Ends everything. Idempotent, also before start."""
        runner, self._runner = self._runner, None
        self.journal.end()
        self.faults.release()
        await self.whatsapp.stop()
        await self._smtp.stop()
        if runner:
            await runner.cleanup()

    @property
    def addresses(self) -> Addresses:
        """Where it is found; only once it is started."""
        if self._runner is None:
            raise RuntimeError("the sandbox is not started")
        return Addresses.of(self.settings, self._runner.addresses[0][1], self._smtp.port)

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self.settings.host, self.settings.port
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                reason = "is in use" if error.errno == errno.EADDRINUSE else "cannot be used"
                raise PortTaken(f"{host}:{port} {reason}; choose another --port, or 0 for any free one") from None
            raise

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._tell])
        for part in (self._admin, self.whatsapp, self._hooks, self._ai):
            app.add_routes(part.routes())
        return app

    @web.middleware
    async def _tell(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._on_request is not None:
            self._on_request(request, await request.read())
        return await handler(request)
