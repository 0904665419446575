"""Which messages are taken, in what shape they go out, and what is said about the others."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.catalog import shipped_catalog
from crmd.crm.messages.payloads import TYPES, SendMessage
from crmd.errors import InvalidPayload

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
