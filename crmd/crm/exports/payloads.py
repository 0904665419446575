"""The payloads of `export_contacts` and `export_messages`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.imports.columns import ATTRIBUTE_PREFIX
from crmd.crm.messages.queries import MessageFilter
from crmd.crm.payload import NotBlank, Payload, invalid

Format = Literal["csv", "xlsx", "jsonl"]
MAX_COLUMNS = 300

CONTACT_COLUMNS = (
    *("phone", "name", "email", "tags", "opted_out_at", "attributes"),
    *("id", "last_inbound_at", "created_at", "updated_at"),
)
DEFAULT_CONTACT_COLUMNS = CONTACT_COLUMNS[:6]
MESSAGE_COLUMNS = (
    *("id", "created_at", "direction", "phone", "type", "text", "status", "status_at"),
    *("error_code", "error", "campaign_id", "contact_id", "wamid", "job_key"),
)
DEFAULT_MESSAGE_COLUMNS = MESSAGE_COLUMNS[:11]


def _check_delimiter(delimiter: str) -> str:
    if delimiter in "\"'\r\n=+-@" or delimiter.isalnum():
        raise invalid("the delimiter must be a character such as , ; or tab")
    return delimiter


def _check_contact_column(name: str) -> str:
    if name not in CONTACT_COLUMNS and (not name.startswith(ATTRIBUTE_PREFIX) or name == ATTRIBUTE_PREFIX):
        raise invalid(f'"{name}" is not a column; there are {", ".join(CONTACT_COLUMNS)} and attributes.NAME')
    return name


def _check_message_column(name: str) -> str:
    if name not in MESSAGE_COLUMNS:
        raise invalid(f'"{name}" is not a column; there are {", ".join(MESSAGE_COLUMNS)}')
    return name


class Export(Payload):
    """What both exports have in common."""

    format: Annotated[Format, Field(description="`csv`, `xlsx` or `jsonl` (JSON Lines).")] = "csv"
    name: Annotated[
        NotBlank | None,
        Field(max_length=100, description="The file's name without its extension; generated if absent."),
    ] = None
    delimiter: Annotated[
        Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_check_delimiter)],
        Field(description="For CSV. Excel in countries with a decimal comma needs `;`."),
    ] = ","
    byte_order_mark: Annotated[
        bool,
        Field(description="Begins CSV with the mark by which Excel recognises UTF-8; some programs trip over it."),
    ] = True


class ExportContacts(Export):
    """Contacts as a file."""

    filter: Annotated[ContactFilter, Field(description="Which contacts; all by default.")] = ContactFilter()
    columns: Annotated[
        tuple[Annotated[str, Field(max_length=100), AfterValidator(_check_contact_column)], ...],
        Field(
            min_length=1,
            max_length=MAX_COLUMNS,
            description="Columns in their order: "
            + ", ".join(f"`{name}`" for name in CONTACT_COLUMNS)
            + ", `attributes.NAME`. `attributes` is a column for each attribute there is.",
        ),
    ] = DEFAULT_CONTACT_COLUMNS


class ExportMessages(Export):
    """Messages as a file."""

    filter: Annotated[MessageFilter, Field(description="Which messages; all by default.")] = MessageFilter()
    columns: Annotated[
        tuple[Annotated[str, Field(max_length=100), AfterValidator(_check_message_column)], ...],
        Field(
            min_length=1,
            max_length=MAX_COLUMNS,
            description="Columns in their order: " + ", ".join(f"`{name}`" for name in MESSAGE_COLUMNS) + ".",
        ),
    ] = DEFAULT_MESSAGE_COLUMNS
