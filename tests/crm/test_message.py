"""`send_message` against the stand-in: what is taken and sent, and what is known when no answer comes."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from crmd.crm.catalog import shipped_catalog
from crmd.crm.messages.jobs import MessageSent, send_message
from crmd.crm.messages.payloads import TYPES, SendMessage
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.outbound.http import MAX_BODY_BYTES, HttpClient
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.errors import (
    InvalidPayload,
    JobSignal,
    OutcomeUnknown,
    PauseQueue,
    Permanent,
    RateLimited,
    Retry,
    Snooze,
)
from tests.support.context import RecordedRun, make_context
from tests.support.raised import raised
from tests.support.services import NUMBER_ID, TOKEN, VERSION, WhatsAppServer
from tests.support.wait import cancel_once

TEXT: dict[str, Any] = {"to": "+4915112345678", "text": "hello"}


def client_of(http: HttpClient, base_url: str, **changes: Any) -> WhatsAppClient:
    settings = {"phone_number_id": NUMBER_ID, "token": SecretStr(TOKEN), **changes}
    return WhatsAppClient(http, base_url=base_url, api_version=VERSION, **settings)


async def send(
    repository: MessageRepository, whatsapp: WhatsAppClient, payload: dict[str, Any] | None = None, **context: Any
) -> MessageSent:
    ctx = make_context(repository, whatsapp, **{"key": uuid.uuid4().hex, **context})
    return await send_message(ctx, SendMessage.model_validate(payload or TEXT))


S = TypeVar("S", bound=JobSignal)


async def refused(kind: type[S], sending: Awaitable[MessageSent], *said: str) -> S:
    """What the send raises, without showing the token."""
    signal = await raised(kind, sending, *said)
    assert TOKEN not in str(signal)
    return signal


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else gets it, and refuses connections."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
async def plain_port() -> AsyncIterator[int]:
    """A port that answers in plain text where TLS is spoken to it."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()


async def test_a_text_is_sent_in_the_cloud_apis_shape(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    run = RecordedRun()
    result = await send(repository, whatsapp, key="order-17", run=run)
    assert result == {"message_id": server.wamids[0], "recipient": "4915112345678", "status": "accepted"}
    assert server.messages == [
        {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": "4915112345678",
            "type": "text",
            "text": {"body": "hello"},
            "biz_opaque_callback_data": "order-17",
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert run.effects_begun == 1


async def test_a_message_may_be_held_for_quality_assessment(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    message = {"id": "wamid.HELD", "message_status": "held_for_quality_assessment"}
    server.then(200, {"contacts": [{"wa_id": "491511"}], "messages": [message]})
    result = await send(repository, whatsapp)
    assert result == {"message_id": "wamid.HELD", "recipient": "491511", "status": "held_for_quality_assessment"}


async def test_a_key_too_long_for_meta_is_left_out(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    await send(repository, whatsapp, key="k" * 513)
    assert "biz_opaque_callback_data" not in server.messages[0]


async def test_the_effect_begins_before_the_request(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    class Refusing(RecordedRun):
        async def effect_begun(self) -> None:
            raise ConnectionError("the store is unavailable")

    with pytest.raises(ConnectionError):
        await send(repository, whatsapp, run=Refusing())
    assert server.messages == []


@pytest.mark.parametrize("missing", [{"token": SecretStr("")}, {"phone_number_id": ""}])
async def test_without_an_account_the_job_waits(
    http: HttpClient, server: WhatsAppServer, missing: dict[str, Any], repository: MessageRepository
) -> None:
    run = RecordedRun()
    signal = await refused(
        Snooze, send(repository, client_of(http, server.url, **missing), run=run), "whatsapp.token"
    )
    assert signal.after == 60
    assert run.effects_begun == 0
    assert server.headers == []


@pytest.mark.parametrize("token", ["two words", "line\nend", "ключ"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(http: HttpClient, token: str) -> None:
    with pytest.raises(ValueError, match=r"whatsapp\.token") as caught:
        client_of(http, "https://graph.facebook.com", token=SecretStr(token))
    assert token not in str(caught.value)


def test_a_phone_number_in_place_of_its_id_is_refused(http: HttpClient) -> None:
    with pytest.raises(ValueError, match="phone_number_id"):
        client_of(http, "https://graph.facebook.com", phone_number_id="+49 151 1")


# Nothing was sent: try again


async def test_a_refused_connection_is_tried_again(
    http: HttpClient, closed_port: int, repository: MessageRepository
) -> None:
    signal = await refused(
        Retry, send(repository, client_of(http, f"http://127.0.0.1:{closed_port}")), "nothing was sent"
    )
    assert signal.after is None


async def test_a_name_that_does_not_resolve_is_tried_again(
    http: HttpClient, repository: MessageRepository
) -> None:
    await refused(Retry, send(repository, client_of(http, "http://nowhere.invalid")))


async def test_a_failed_tls_handshake_is_tried_again(
    http: HttpClient, plain_port: int, repository: MessageRepository
) -> None:
    await refused(Retry, send(repository, client_of(http, f"https://127.0.0.1:{plain_port}")))


# Something may have been sent: never blindly again


async def test_no_answer_in_time_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_hang()
    await refused(OutcomeUnknown, send(repository, whatsapp, timeout_seconds=1.2), "no answer within")
    assert len(server.messages) == 1


async def test_a_connection_cut_after_the_body_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_drop()
    await refused(OutcomeUnknown, send(repository, whatsapp))
    assert len(server.messages) == 1, "the client must not repeat it on its own"


async def test_a_cut_on_a_kept_connection_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    await send(repository, whatsapp)
    server.then_drop()
    await refused(OutcomeUnknown, send(repository, whatsapp))
    assert len(server.messages) == 2
    assert server.peers[0] == server.peers[1], "the connection was kept"


async def test_a_kept_connection_that_the_server_closed_is_not_used(
    http: HttpClient, server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    await send(repository, whatsapp)
    await server.stop()
    signal = await refused(JobSignal, send(repository, whatsapp))
    assert isinstance(signal, Retry), "the port is closed, so nothing was sent"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
@pytest.mark.parametrize(
    "body", ["<html>bad gateway</html>", "", {"error": {"message": "no code"}}, {"error": "x"}]
)
async def test_a_server_error_without_a_code_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, status: int, body: Any, repository: MessageRepository
) -> None:
    server.then(status, body)
    await refused(OutcomeUnknown, send(repository, whatsapp), str(status))


@pytest.mark.parametrize(
    "body",
    ["", "[]", "nonsense", "[" * 100_000, {"messages": []}, {"messages": [{}]}, {"messages": [{"id": ""}]}, [1]],
    ids=["empty", "list", "text", "deep", "no message", "no id", "empty id", "number"],
)
async def test_a_success_without_a_message_id_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, body: Any, repository: MessageRepository
) -> None:
    server.then(200, body)
    await refused(OutcomeUnknown, send(repository, whatsapp))


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_that_breaks_off_is_unknown(
    server: WhatsAppServer, whatsapp: WhatsAppClient, status: int, repository: MessageRepository
) -> None:
    server.then_break_off(status, '{"messages": [{"id": "wam')
    await refused(OutcomeUnknown, send(repository, whatsapp))


async def test_an_endless_answer_is_cut(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then(200, json.dumps({"messages": [{"id": "wamid.X"}], "more": "x" * MAX_BODY_BYTES}))
    await refused(OutcomeUnknown, send(repository, whatsapp))


# Something else than WhatsApp answered


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_foreign_refusal_of_the_request_is_permanent(
    server: WhatsAppServer, whatsapp: WhatsAppClient, status: int, repository: MessageRepository
) -> None:
    server.then(status, "request refused by proxy")
    assert (await refused(Permanent, send(repository, whatsapp))).code == f"http_{status}"


@pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 405, 407])
async def test_a_foreign_refusal_of_the_way_pauses_the_queue(
    server: WhatsAppServer, whatsapp: WhatsAppClient, status: int, repository: MessageRepository
) -> None:
    server.then(status, "<html>not here</html>", headers={"Location": "http://127.0.0.1:1/"})
    await refused(PauseQueue, send(repository, whatsapp), "whatsapp.base_url")


async def test_a_foreign_429_slows_the_queue(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then(429, "slow down")
    signal = await refused(RateLimited, send(repository, whatsapp))
    assert signal.scope == "queue"
    assert signal.after == 60


async def test_a_wrong_token_pauses_the_queue_without_showing_it(
    http: HttpClient, server: WhatsAppServer, repository: MessageRepository
) -> None:
    signal = await refused(
        PauseQueue, send(repository, client_of(http, server.url, token=SecretStr("EAAwrongTOKEN")))
    )
    assert "EAAwrongTOKEN" not in str(signal)


# Many at once, and the end


async def test_many_messages_at_once_are_each_sent_once(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    results = await asyncio.gather(*(send(repository, whatsapp, key=f"job-{n}") for n in range(200)))
    assert len({result["message_id"] for result in results}) == 200
    assert len({message["biz_opaque_callback_data"] for message in server.messages}) == 200


async def test_a_cancelled_send_leaves_the_client_usable(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_hang()
    await cancel_once(lambda: server.messages, send(repository, whatsapp))
    assert (await send(repository, whatsapp))["status"] == "accepted"


async def test_the_http_client_bears_any_order_of_start_and_stop() -> None:
    client = HttpClient()
    await client.stop()
    await client.start()
    await client.start()
    await client.stop()
    await client.stop()


async def test_a_client_that_was_not_started_says_so(
    server: WhatsAppServer, repository: MessageRepository
) -> None:
    with pytest.raises(RuntimeError, match="start"):
        await send(repository, client_of(HttpClient(), server.url))


def test_the_token_is_not_in_the_clients_repr(whatsapp: WhatsAppClient) -> None:
    assert TOKEN not in repr(whatsapp)
    assert TOKEN not in repr(vars(whatsapp))


# Payloads


TO = "+4915112345678"
BUTTON = {"type": "reply", "reply": {"id": "yes", "title": "Yes"}}


def rows(count: int, prefix: str = "r") -> list[dict[str, Any]]:
    return [{"id": f"{prefix}{number}", "title": f"Row {number}"} for number in range(count)]


def button_message(*buttons: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "interactive": {
            "type": "button",
            "body": {"text": "Well?"},
            "action": {"buttons": list(buttons)},
            **fields,
        }
    }


def list_message(*sections: dict[str, Any], **fields: Any) -> dict[str, Any]:
    action = {"button": "Choose", "sections": list(sections)}
    return {"interactive": {"type": "list", "body": {"text": "Choose"}, "action": action, **fields}}


def template(*components: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "template": {"name": "order_paid", "language": {"code": "de"}, "components": list(components), **fields}
    }


GOOD: dict[str, dict[str, Any]] = {
    "text": {"text": {"body": "x" * 4096, "preview_url": True}},
    "answer": {"text": {"body": "yes"}, "context": {"message_id": "wamid.A"}},
    "template": template(
        {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://example.com/a.png"}}]},
        {"type": "body", "parameters": [{"type": "text", "text": "42", "parameter_name": "order"}]},
        {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "42"}]},
    ),
    "bare template": {"template": {"name": "hello_world", "language": {"code": "en_US"}}},
    "carousel": template({"type": "carousel", "cards": [{"card_index": 0, "components": []}]}),
    "image": {"image": {"link": "https://example.com/a.png", "caption": "A"}},
    "document": {"document": {"id": "123", "filename": "a.pdf", "caption": "A"}},
    "audio": {"audio": {"id": "123"}},
    "video": {"video": {"link": "http://example.com/a.mp4"}},
    "location": {"location": {"latitude": -90, "longitude": 180, "name": "Pole", "address": "Ice"}},
    "buttons": button_message(BUTTON, header={"type": "image", "image": {"id": "1"}}, footer={"text": "Thanks"}),
    "list": list_message({"title": "A", "rows": rows(5, "a")}, {"title": "B", "rows": rows(5, "b")}),
    "link button": {
        "interactive": {
            "type": "cta_url",
            "body": {"text": "Look"},
            "action": {"name": "cta_url", "parameters": {"display_text": "Open", "url": "https://example.com"}},
        }
    },
    "location request": {
        "interactive": {
            "type": "location_request_message",
            "body": {"text": "Where?"},
            "action": {"name": "send_location"},
        }
    },
    "flow": {
        "interactive": {
            "type": "flow",
            "body": {"text": "Go"},
            "action": {"name": "flow", "parameters": {"flow_id": "1", "flow_cta": "Go", "mode": "draft"}},
        }
    },
    "reaction": {"reaction": {"message_id": "wamid.A", "emoji": "👍"}},
    "reaction taken away": {"reaction": {"message_id": "wamid.A", "emoji": ""}},
}

# name: (payload besides `to`, field named, words of the reason)
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "payload", "of type text needs the field text"),
    "no content": ({"type": "image"}, "payload", "of type image needs the field image and no other content"),
    "other content": ({"type": "image", "text": "x"}, "payload", "it has text"),
    "two contents": ({"type": "text", "text": "x", "audio": {"id": "1"}}, "payload", "it has text, audio"),
    "type left open": ({"text": "x", "audio": {"id": "1"}}, "payload", "type is required"),
    "unknown type": ({"type": "sticker"}, "type", "'text', 'template'"),
    "unknown field": ({"text": "x", "txt": "y"}, "txt", "not permitted"),
    "empty text": ({"text": ""}, "text.body", "must not be blank"),
    "blank text": ({"text": {"body": " \n "}}, "text.body", "must not be blank"),
    "long text": ({"text": "x" * 4097}, "text.body", "at most 4096"),
    "media without source": ({"image": {}}, "image", "exactly one of id and link"),
    "media with both": ({"image": {"id": "1", "link": "https://example.com/a"}}, "image", "exactly one of"),
    "no link": ({"image": {"link": "ftp://example.com/a"}}, "image.link", "pattern"),
    "link with password": ({"image": {"link": "https://u:p@example.com/a"}}, "image.link", "pattern"),
    "caption on audio": ({"audio": {"id": "1", "caption": "A"}}, "audio.caption", "not permitted"),
    "filename on image": ({"image": {"id": "1", "filename": "a"}}, "image.filename", "not permitted"),
    "long caption": ({"image": {"id": "1", "caption": "x" * 1025}}, "image.caption", "at most 1024"),
    "latitude": (
        {"location": {"latitude": 90.1, "longitude": 0}},
        "location.latitude",
        "less than or equal to 90",
    ),
    "longitude": ({"location": {"latitude": 0, "longitude": -181}}, "location.longitude", "greater than or equal"),
    "no number": ({"location": {"latitude": float("nan"), "longitude": 0}}, "location.latitude", "finite"),
    "a truth for a number": (
        {"location": {"latitude": False, "longitude": 0}},
        "location.latitude",
        "must be a number",
    ),
    "address alone": (
        {"location": {"latitude": 0, "longitude": 0, "address": "A"}},
        "location",
        "give name too",
    ),
    "template name": ({"template": {"name": "Order Paid", "language": "de"}}, "template.name", "pattern"),
    "template language": ({"template": {"name": "a", "language": "german"}}, "template.language.code", "pattern"),
    "no language": ({"template": {"name": "a"}}, "template.language", "required"),
    "button without index": (
        template({"type": "button", "sub_type": "url"}),
        "template.components.0",
        "needs sub_type and index",
    ),
    "index on body": (template({"type": "body", "index": 0}), "template.components.0", "belong to button"),
    "carousel without cards": (template({"type": "carousel"}), "template.components.0", "has cards"),
    "parameter without value": (
        template({"type": "body", "parameters": [{"type": "text"}]}),
        "template.components.0.parameters.0",
        "needs the field text",
    ),
    "no buttons": (button_message(), "interactive.button.action.buttons", "at least 1"),
    "four buttons": (
        button_message(*({"reply": {"id": str(n), "title": str(n)}} for n in range(4))),
        "interactive.button.action.buttons",
        "at most 3",
    ),
    "button twice": (button_message(BUTTON, BUTTON), "interactive.button.action", "'yes' stands twice"),
    "button title": (
        button_message({"reply": {"id": "a", "title": "x" * 21}}),
        "interactive.button.action.buttons.0.reply.title",
        "at most 20",
    ),
    "header without content": (
        button_message(BUTTON, header={"type": "image"}),
        "interactive.button.header",
        "needs the field image",
    ),
    "eleven rows": (
        list_message({"title": "A", "rows": rows(5, "a")}, {"title": "B", "rows": rows(6, "b")}),
        "interactive.list.action",
        "at most 10 rows over all sections, this one has 11",
    ),
    "section title": (
        list_message({"title": "A", "rows": rows(1, "a")}, {"rows": rows(1, "b")}),
        "interactive.list.action",
        "each needs a title",
    ),
    "row twice": (
        list_message({"title": "A", "rows": rows(1)}, {"title": "B", "rows": rows(1)}),
        "interactive.list.action",
        "'r0' stands twice",
    ),
    "list with image": (
        list_message({"rows": rows(1)}, header={"type": "image", "image": {"id": "1"}}),
        "interactive.list",
        "must be a text",
    ),
    "flow without id": (
        {"interactive": {"type": "flow", "body": {"text": "a"}, "action": {"parameters": {}}}},
        "interactive.flow.action",
        "flow_id or flow_name",
    ),
    "interactive type": ({"interactive": {"type": "poll"}}, "interactive", "'poll'"),
    "reaction with context": (
        {"reaction": {"message_id": "wamid.A", "emoji": "👍"}, "context": {"message_id": "wamid.B"}},
        "payload",
        "it has no context",
    ),
    "empty context": ({"text": "x", "context": {"message_id": ""}}, "context.message_id", "at least 1"),
}


def validate(payload: dict[str, Any]) -> SendMessage:
    model = shipped_catalog().get("message", "send_message").validate(payload)
    assert isinstance(model, SendMessage)
    return model


@pytest.mark.parametrize("name", GOOD)
def test_good_messages_go_out_as_they_came(name: str) -> None:
    content = GOOD[name]
    request = validate({"to": TO, **content}).request()
    [kind] = set(content) - {"context"}
    assert request == {"to": "4915112345678", "type": kind, **content}


def test_every_type_has_an_example() -> None:
    assert {kind for content in GOOD.values() for kind in content} - {"context"} == set(TYPES)


@pytest.mark.parametrize("name", BAD)
def test_bad_messages_are_refused_with_field_and_reason(name: str) -> None:
    content, field, words = BAD[name]
    with pytest.raises(InvalidPayload) as caught:
        validate({"to": TO, **content})
    text = str(caught.value)
    assert f"{field}: " in text
    assert words in text
    assert "\n" not in text
    assert "Value error" not in text


@pytest.mark.parametrize("to", ["4915112345678", "+4915112345678", "12125550123"])
def test_good_numbers(to: str) -> None:
    assert validate({"to": to, "text": "x"}).request()["to"] == to.removeprefix("+")


BAD_NUMBERS = [
    "",
    "+",
    "015112345678",
    "+49 151 12345678",
    "0049151123",
    "12345",
    "1" * 16,
    "+49a",
    "491511234567\n",
]


@pytest.mark.parametrize("to", [*BAD_NUMBERS, "٤٩١٥١١٢٣٤٥٦٧"])
def test_bad_numbers(to: str) -> None:
    with pytest.raises(InvalidPayload, match="to: "):
        validate({"to": to, "text": "x"})


def test_a_plain_text_needs_no_type() -> None:
    assert validate({"to": TO, "text": "hi"}).request() == {
        "to": "4915112345678",
        "type": "text",
        "text": {"body": "hi"},
    }


def test_a_template_language_may_be_a_plain_string() -> None:
    request = validate({"to": TO, "template": {"name": "a", "language": "pt_BR"}}).request()
    assert request["template"]["language"] == {"code": "pt_BR"}


def test_what_the_model_shows_can_be_validated_again() -> None:
    # ctx.enqueue and the Python client take models and send their JSON
    for content in GOOD.values():
        model = validate({"to": TO, **content})
        assert validate(model.model_dump(mode="json")) == model


@pytest.mark.parametrize("payload", [{}, {"to": None}, {"to": TO, "text": None}, {"to": TO, "text": 5}])
def test_odd_payloads_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        validate(payload)
