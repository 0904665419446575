"""Queue `export`: writes contacts or messages into a file."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts import transfers as contact_transfers
from crmd.crm.contacts.repository import ContactView
from crmd.crm.database.database import Database
from crmd.crm.exports.payloads import ExportContacts, ExportMessages
from crmd.crm.exports.writing import PAGE_ROWS, Exported, Table, run_export
from crmd.crm.imports.columns import ATTRIBUTE_PREFIX
from crmd.crm.messages import transfers as message_transfers
from crmd.jobs import JobContext, job

MAX_ATTRIBUTE_COLUMNS = 200
"""Where contacts have more attributes than that, all stand in one column as JSON."""
_TAG_SEPARATORS = re.compile(r"[,;|\n]|^\[")

Cell = Callable[[ContactView], Any]


@job(queue="export", payload=ExportContacts)
async def export_contacts(ctx: JobContext, payload: ExportContacts) -> Exported | dict[str, Any]:
    """Writes contacts into a file; nobody sees it before it is whole."""
    return await run_export(ctx, payload, partial(_contacts, ctx.get(Database), payload))


@job(queue="export", payload=ExportMessages)
async def export_messages(ctx: JobContext, payload: ExportMessages) -> Exported | dict[str, Any]:
    """Writes messages into a file; nobody sees it before it is whole."""
    return await run_export(ctx, payload, partial(_messages, ctx.get(Database), payload))


async def _contacts(database: Database, payload: ExportContacts) -> Table:
    async with database.reading() as s:
        total, last_id = await contact_transfers.extent(s, payload.filter)
        attributes: list[str] = []
        if "attributes" in payload.columns and payload.format != "jsonl":
            limit = MAX_ATTRIBUTE_COLUMNS + 1
            attributes = await contact_transfers.attribute_names(s, payload.filter, limit)
    names = list(payload.columns)
    if "attributes" in names and payload.format != "jsonl" and len(attributes) <= MAX_ATTRIBUTE_COLUMNS:
        place = names.index("attributes")
        names[place : place + 1] = [f"{ATTRIBUTE_PREFIX}{name}" for name in attributes]
    names = list(dict.fromkeys(names))
    pages = _contact_pages(database, payload, last_id)
    if payload.format == "jsonl":
        getters = {name: _value(name) for name in names}
        return Table("contacts", names, total, pages, lambda page: [_object(getters, one) for one in page])
    cells = [_cell(name) for name in names]
    return Table("contacts", names, total, pages, lambda page: [[cell(one) for cell in cells] for one in page])


async def _contact_pages(
    database: Database, payload: ExportContacts, last_id: int
) -> AsyncGenerator[Sequence[ContactView], None]:
    """Page by page, each in a short transaction; contacts that come meanwhile are left out."""
    after_id = 0
    while after_id < last_id:
        async with database.reading() as s:
            page = await contacts.page(s, payload.filter, after_id, PAGE_ROWS)
        page = [one for one in page if one.id <= last_id]
        if not page:
            return
        after_id = page[-1].id
        yield page


def _value(name: str) -> Cell:
    """A contact's value as JSON has it."""
    if name.startswith(ATTRIBUTE_PREFIX):
        attribute = name.removeprefix(ATTRIBUTE_PREFIX)
        return lambda one: one.attributes.get(attribute)
    return lambda one: getattr(one, name)


def _cell(name: str) -> Cell:
    """A contact's value as a table has it."""
    if name == "tags":
        return lambda one: _joined(one.tags)
    if name == "attributes":
        return lambda one: json.dumps(one.attributes, ensure_ascii=False) if one.attributes else ""
    return _value(name)


def _object(getters: dict[str, Cell], one: ContactView) -> dict[str, Any]:
    return {name: getter(one) for name, getter in getters.items()}


def _joined(tags: Sequence[str]) -> str:
    """Tags with commas between; a JSON list where a tag has a comma itself."""
    if any(_TAG_SEPARATORS.search(tag) for tag in tags):
        return json.dumps(tags, ensure_ascii=False)
    return ", ".join(tags)


async def _messages(database: Database, payload: ExportMessages) -> Table:
    async with database.reading() as s:
        chosen = await message_transfers.ids(s, payload.filter)
    names = list(dict.fromkeys(payload.columns))
    pages = _message_pages(database, chosen, names)
    if payload.format == "jsonl":
        return Table("messages", names, len(chosen), pages, lambda page: [one._asdict() for one in page])
    return Table("messages", names, len(chosen), pages, list)


async def _message_pages(
    database: Database, chosen: Sequence[int], names: Sequence[str]
) -> AsyncGenerator[Sequence[Any], None]:
    for begin in range(0, len(chosen), PAGE_ROWS):
        async with database.reading() as s:
            page = await message_transfers.rows(s, chosen[begin : begin + PAGE_ROWS], names)
        yield page
