"""The tables of payload fields on the queues' pages, from the models that check the payloads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crmd.config.shipped import SHIPPED_QUEUES
from crmd.crm.catalog import shipped_catalog

PAGES: dict[str, str] = {f"docs/queues/{queue}.md": queue for queue in SHIPPED_QUEUES}
"""Each queue's page, by its path in the project."""

_REGION = re.compile(r"(<!-- payload:(\w+) -->\n).*?(<!-- /payload -->)", re.DOTALL)
_HEAD = ("| field | type | default | meaning |", "|---|---|---|---|")
_NO_FIELDS = "The payload is empty."

Schema = dict[str, Any]


@dataclass
class _Part:
    """A model inside a payload, and where it stands in there."""

    name: str
    places: list[tuple[str, str]] = field(default_factory=list)
    """Each a path, such as `template.components[]`, and the `type` that it takes, where there are several."""


def with_payloads(page: str, queue: str) -> str:
    """The text of a queue's page with the tables between its marks."""
    catalog = shipped_catalog()

    def filled(found: re.Match[str]) -> str:
        model = catalog.get(queue, found[2]).payload
        body = payload_markdown(model.model_json_schema()) if model else _NO_FIELDS
        return f"{found[1]}{body}\n{found[3]}"

    return _REGION.sub(filled, page)


def payload_markdown(schema: Schema) -> str:
    """The table of a payload's fields, and one for each model inside it, from its JSON schema."""
    if not schema.get("properties"):
        return _NO_FIELDS
    definitions: dict[str, Schema] = schema.get("$defs", {})
    lines = list(_table(schema, definitions))
    parts = list(_parts(schema, definitions))
    for part in parts:
        model = definitions[part.name]
        lines += ["", f"{_title(part, parts)}: {_one_line(model.get('description', ''))}", ""]
        lines += _table(model, definitions)
    return "\n".join(lines)


def _parts(schema: Schema, definitions: dict[str, Schema]) -> Iterator[_Part]:
    """The models inside a payload, each once, in the order in which a reader comes to them."""
    found: dict[str, _Part] = {}

    def visit(owner: Schema, path: str, kind: str) -> None:
        for name, node in owner.get("properties", {}).items():
            for inner, suffix in _references(node):
                model = definitions[inner]
                if "properties" not in model:
                    continue
                place = f"{path}.{name}{suffix}".removeprefix(".")
                variant = model["properties"].get("type", {}).get("const", "") if "oneOf" in _bare(node) else kind
                part = found.setdefault(inner, _Part(inner))
                if (place, variant) not in part.places:
                    part.places.append((place, variant))
                    visit(model, place, variant)

    visit(schema, "", "")
    yield from found.values()


def _references(node: Schema, suffix: str = "") -> Iterator[tuple[str, str]]:
    """The models that a field may hold, with `[]` for those in a list."""
    if "$ref" in node:
        yield node["$ref"].rpartition("/")[2], suffix
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _references(option, suffix)
    if isinstance(items := node.get("items"), dict):
        yield from _references(items, f"{suffix}[]")


def _title(part: _Part, parts: list[_Part]) -> str:
    """Where a model stands; with the `type` it belongs to, where the same place has several models."""
    kinds: dict[str, list[str]] = {}
    for path, kind in part.places:
        kinds.setdefault(path, []).append(kind)
    shared = {path for other in parts if other is not part for path, _ in other.places}
    names = []
    for path, of_kinds in kinds.items():
        said = ", ".join(f"`{kind}`" for kind in of_kinds)
        names.append(f"`{path}`" + (f" of the type {said}" if path in shared else ""))
    return ", ".join(names)


def _table(model: Schema, definitions: dict[str, Schema]) -> Iterator[str]:
    required = model.get("required", ())
    yield from _HEAD
    for name, node in model["properties"].items():
        default = "required" if name in required else _default(node, definitions)
        cells = (f"`{name}`", _type(node, definitions), default, _meaning(node, definitions))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _meaning(node: Schema, definitions: dict[str, Schema]) -> str:
    """A field's description; the schema leaves it out where it is that of the model in it."""
    if "description" in node:
        return _one_line(node["description"])
    inner = [definitions[name].get("description", "") for name, _ in _references(node)]
    return _one_line(inner[0]) if inner else ""


def _one_line(description: str) -> str:
    return " ".join(description.split())


def _default(node: Schema, definitions: dict[str, Schema]) -> str:
    if "default" not in node:
        return "`[]`" if _bare(node).get("type") == "array" else "`{}`"
    value = node["default"]
    if value is None:
        return ""
    if "$ref" in node and isinstance(value, dict):
        inner = definitions[node["$ref"].rpartition("/")[2]]["properties"]
        value = {name: item for name, item in value.items() if item != inner[name].get("default", {})}
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _bare(node: Schema) -> Schema:
    """A field's schema where it is given; most may be null as well, which is the same as left out."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else node


def _type(node: Schema, definitions: dict[str, Schema]) -> str:
    node = _bare(node)
    if "$ref" in node:
        return _type(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(option, definitions) for option in node["anyOf"]))
    if "oneOf" in node:
        return "object"
    match node.get("type"):
        case "string":
            return (
                "instant" if node.get("format") == "date-time" else f"text{_bounds(node, 'Length', 'characters')}"
            )
        case "integer":
            return f"whole number{_range(node)}"
        case "number":
            return f"number{_range(node)}"
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list{_entries(node, definitions)}{_bounds(node, 'Items', '')}"
        case "object":
            return f"object{_bounds(node, 'Properties', 'members')}"
        case "null":
            return "null"
        case _:
            return "any JSON"


def _entries(node: Schema, definitions: dict[str, Schema]) -> str:
    kind = _type(node.get("items", {}), definitions).partition(",")[0]
    return {"object": " of objects", "any JSON": ""}.get(kind, f" of {kind}s")


def _bounds(node: Schema, of: str, unit: str) -> str:
    most = node.get(f"max{of}")
    if most is None:
        return ""
    return ", 1 character" if (most, of) == (1, "Length") else f", at most {most:,} {unit}".rstrip()


def _range(node: Schema) -> str:
    least, most = node.get("minimum"), node.get("maximum", node.get("exclusiveMaximum"))
    if least is None:
        return ""
    if most is None:
        return f", {least:,} or more"
    return f", {least:,} to {'below ' if 'exclusiveMaximum' in node else ''}{most:,}"
