"""The sandbox's stand-ins as tests use them: what arrived at them, and what goes wrong next."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, ClassVar

from aiohttp import web
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from crmd.crm.email.smtp import SmtpClient
from crmd.sandbox.faults import Fault, FaultKind, Faults, Service
from crmd.sandbox.journal import Kind
from crmd.sandbox.mails import ReceivedMail
from crmd.sandbox.server import Sandbox
from crmd.sandbox.settings import SandboxSettings
from crmd.sandbox.smtp import SmtpSink
from crmd.sandbox.users import Inbound, OtherNumber

TOKEN = "EAAtestTOKENvalue123"
NUMBER_ID = SandboxSettings().phone_number_id
VERSION = "v23.0"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = "sk-test-1234567890"
SENDER = "CRM <crm@example.com>"
LONG_S = 3600.0
ALWAYS = 100_000
HANG, HANG_UP = FaultKind.TIMEOUT, FaultKind.DROP
END = None
"""The stage at which the whole mail has come."""


class SandboxService:
    """A sandbox on free ports that keeps to no limits and calls nobody; `then…` says how the next requests go."""

    service: ClassVar[Service]
    path: ClassVar[str] = ""
    """What the service stands below."""

    def __init__(self, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "port": 0,
            "smtp_port": 0,
            "callback_url": None,
            "messages_per_second": 1_000_000,
            "pair_seconds": 0.0,
            "failed_share": 0.0,
            "keep": 100_000,
        }
        self.sandbox = Sandbox(SandboxSettings(**(defaults | settings)), on_request=self._on_request)
        self.port = 0

    @property
    def url(self) -> str:
        """The service's address, without a slash at the end; its last one where it is stopped."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    async def start(self) -> None:
        """Listens on a free port."""
        self.port = (await self.sandbox.start()).port

    async def stop(self) -> None:
        """Ends all requests and closes the port."""
        await self.sandbox.stop()

    def then(self, status: int, body: Any = b"", headers: dict[str, str] | None = None, **fields: Any) -> None:
        """The next request is answered so; a body that is neither text nor bytes becomes JSON."""
        raw = body if isinstance(body, str | bytes) else json.dumps(body)
        self.fault(FaultKind.ANSWER, code=status, body=raw, headers=headers or {}, accepted=False, **fields)

    def then_drop(self) -> None:
        """The next request is read, and its connection cut."""
        self.fault(FaultKind.DROP)

    def then_hang(self, times: int = 1) -> None:
        """The next requests are read, and answered once `release` is called."""
        self.fault(FaultKind.DELAY, seconds=LONG_S, times=times)

    def release(self) -> None:
        """Requests that hang are answered, and nothing goes wrong any more."""
        self.sandbox.faults.clear()

    def fault(self, kind: FaultKind, **fields: Any) -> None:
        """The next request goes wrong so."""
        self.sandbox.faults.add(Fault(service=self.service, kind=kind, **fields))

    def note(self, request: web.Request, raw: bytes) -> None:
        """Notes what arrived."""
        raise NotImplementedError

    def _on_request(self, request: web.Request, raw: bytes) -> None:
        self.note(request, raw)


class WhatsAppServer(SandboxService):
    """The Cloud API."""

    service = Service.WHATSAPP

    def __init__(self) -> None:
        super().__init__(token=TOKEN)
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.peers: list[tuple[str, int]] = []
        self.read: list[str] = []
        """Inbound messages that were marked as read."""

    @property
    def wamids(self) -> list[str]:
        """The ids of the messages that it accepted."""
        entries = self.sandbox.journal.entries(Kind.MESSAGE)
        return [entry.fields["wamid"] for entry in entries if entry.fields["wamid"]]

    def know_as(self, number: str, wa_id: str) -> None:
        """WhatsApp has this number in another form."""
        self.sandbox.whatsapp.users.know_as(OtherNumber(number=number, wa_id=wa_id))

    def written(self, sender: str = "4915112345678") -> str:
        """The id of a message that a user has written."""
        inbound = Inbound.model_validate({"from": sender, "text": "hello"})
        return str(self.sandbox.whatsapp.users.write(inbound).fields["wamid"])

    def then_error(self, code: int, *, status: int = 400, **fields: Any) -> None:
        """The next request is answered with an error as Meta gives it."""
        error = {
            "message": f"(#{code}) an error",
            "type": "OAuthException",
            "code": code,
            "error_data": {"messaging_product": "whatsapp", "details": f"details of {code}"},
            "fbtrace_id": "Atrace123",
            **fields,
        }
        self.then(status, {"error": error})

    def then_hang(self, times: int = 1) -> None:
        """The next messages are taken, and no answer comes."""
        self.fault(FaultKind.TIMEOUT, times=times)

    def then_break_off(self, status: int, start: str) -> None:
        """The next request gets the start of an answer, then its connection is cut."""
        self.fault(FaultKind.BREAK_OFF, code=status, body=start)

    def note(self, request: web.Request, raw: bytes) -> None:
        """Keeps messages and marks that come with the right token."""
        self.headers.append(dict(request.headers))
        if request.transport is not None:
            self.peers.append(request.transport.get_extra_info("peername")[:2])
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            message = json.loads(raw)
            if message.get("status") == "read":
                self.read.append(message["message_id"])
            else:
                self.messages.append(message)


@dataclass(frozen=True)
class Received:
    """One post of a webhook."""

    path: str
    headers: dict[str, str]
    raw: bytes
    verified: bool

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]


class Receiver(SandboxService):
    """The receiver of webhooks; 401 to a bad signature."""

    service = Service.WEBHOOK
    path = "/hooks"

    def __init__(self, secret: str = SECRET) -> None:
        super().__init__(webhook_secret=secret)
        self.received: list[Received] = []
        self._webhook = Webhook(secret)

    def note(self, request: web.Request, raw: bytes) -> None:
        """Keeps the post, and checks its signature by itself."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            self._webhook.verify(raw, headers)
        except WebhookVerificationError:
            verified = False
        else:
            verified = True
        self.received.append(Received(request.path_qs.removeprefix(self.path) or "/", headers, raw, verified))


class NotifySite(SandboxService):
    """What stands behind Apprise's json:// channels."""

    service = Service.NOTICE
    path = "/notify"

    def __init__(self) -> None:
        super().__init__()
        self.received: list[dict[str, Any]] = []

    def channel(self, path: str = "") -> str:
        """An Apprise URL that leads here."""
        return f"json://127.0.0.1:{self.port}{self.path}/{path}"

    @property
    def texts(self) -> list[str]:
        """What the messages say."""
        return [one["message"] for one in self.received]

    def note(self, request: web.Request, raw: bytes) -> None:
        """Keeps one message."""
        self.received.append(json.loads(raw))


class AiServer(SandboxService):
    """A service that speaks OpenAI's protocol; answers with `text` what nothing else was said of."""

    service = Service.AI

    def __init__(self) -> None:
        super().__init__(ai_key=KEY)
        self.text: Any = "You are welcome."
        self.finish_reason = "stop"
        self.requests: list[dict[str, Any]] = []
        """Bodies of chat requests; of recordings their fields, `file` as name, type and content."""
        self.authorizations: list[str | None] = []

    @property
    def base_url(self) -> str:
        """What `ai.base_url` has to be."""
        return f"{self.url}/v1"

    def then_error(self, status: int, code: str | None = None, message: str = "no", **more: Any) -> None:
        """The next request is answered with an error as the API words it."""
        headers = more.pop("headers", None)
        self.then(status, {"error": {"message": message, "type": "error", "code": code, **more}}, headers)

    def note(self, request: web.Request, raw: bytes) -> None:
        """Keeps the request, and says what it is answered with."""
        self.authorizations.append(request.headers.get("Authorization"))
        is_form = request.content_type == "multipart/form-data"
        self.requests.append(_form(request.headers["Content-Type"], raw) if is_form else json.loads(raw))
        if self.authorizations[-1] == f"Bearer {KEY}" and not self.sandbox.faults.pending():
            usage = {"input_tokens": 30, "output_tokens": 9}
            self.then(200, {"text": self.text, "usage": usage} if is_form else self._completion())

    def _completion(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        return {
            "model": "small-2024",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": {"prompt_tokens": 21, "completion_tokens": 7, "total_tokens": 28},
        }


def _form(content_type: str, raw: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for part in message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw).walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            name = str(part.get_param("name", header="content-disposition"))
            fields[name] = (
                (part.get_filename(), part["Content-Type"], content) if name == "file" else content.decode()
            )
    return fields


class MailServer:
    """The mail server; `then` says how it answers the next commands."""

    def __init__(self, **settings: Any) -> None:
        self.arrived: list[ReceivedMail] = []
        self.commands: list[str] = []
        """What was said, in order; without arguments."""
        self.most_at_once = 0
        self._faults = Faults()
        self._sink = SmtpSink(self.arrived.append, self._faults, SandboxSettings(**settings), self._on_command)

    @property
    def port(self) -> int:
        """Where it listens; its last port where it is stopped."""
        return self._sink.port

    @property
    def connections(self) -> int:
        """All that were ever made."""
        return self._sink.connection_count

    @property
    def open_count(self) -> int:
        """Connections that are open now."""
        return self._sink.open_count

    async def start(self) -> None:
        """Listens on a free port, the same one where it did before."""
        await self._sink.start("127.0.0.1", self._sink.port)

    async def stop(self) -> None:
        """Ends all connections and closes the port."""
        await self._sink.stop()

    async def hang_up(self) -> None:
        """Closes all connections, as servers do with idle ones."""
        await self._sink.hang_up()

    def then(self, stage: str | None, *answers: str, **fields: Any) -> None:
        """What the next commands of a stage are answered with: a reply, HANG or HANG_UP."""
        for answer in answers:
            if answer in (HANG, HANG_UP):
                how = {"kind": answer, "seconds": LONG_S if answer == HANG else None}
            else:
                code, _, text = answer.partition(" ")
                how = {"kind": FaultKind.ERROR, "code": code, "text": text}
            fault = {"service": Service.SMTP, "stage": stage and stage.lower(), **how, **fields}
            self._faults.add(Fault.model_validate(fault))

    def always(self, stage: str, answer: str) -> None:
        """What all commands of a stage are answered with."""
        self.then(stage, answer, times=ALWAYS)

    def _on_command(self, verb: str) -> None:
        self.commands.append(verb)
        self.most_at_once = max(self.most_at_once, self.open_count)


def smtp_client(server: MailServer, **settings: Any) -> SmtpClient:
    """A client of the server: two connections, no encryption and no login, unless told otherwise."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "security": "none",
        "username": "",
        "password": SecretStr(""),
        "sender": SENDER,
        "connections": 2,
        "timeout_seconds": 10.0,
    }
    return SmtpClient(port=server.port, **{**defaults, **settings})
