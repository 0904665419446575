"""The payload of `import_contacts`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from crmd.crm.contacts.phones import check_region
from crmd.crm.contacts.repository import MAX_TAG, check_attribute_name, check_tag
from crmd.crm.imports.columns import ATTRIBUTE_PREFIX, ATTRIBUTES, FIELDS, IGNORE, OPTED_OUT, TAGS
from crmd.crm.payload import NotBlank, Payload, checked_by, invalid
from crmd.crm.tabular.encodings import check_codec

MAX_TAGS = 50
MAX_MAPPED_COLUMNS = 500


def _codec(name: str) -> str:
    try:
        return check_codec(name)
    except ValueError as error:
        raise invalid(str(error)) from None


def _check_meaning(meaning: str) -> None:
    if meaning.startswith(ATTRIBUTE_PREFIX):
        check_attribute_name(meaning.removeprefix(ATTRIBUTE_PREFIX))
    elif meaning not in FIELDS:
        raise ValueError(f'"{meaning}" is not a field; write {", ".join(FIELDS)} or attributes.NAME')


def _check_delimiter(delimiter: str) -> None:
    if delimiter in '"\r\n':
        raise ValueError("the delimiter cannot be a quote or a line end")


Meaning = Annotated[str, Field(max_length=100), checked_by(_check_meaning)]
ColumnName = Annotated[NotBlank, Field(max_length=500)]
Tag = Annotated[str, AfterValidator(str.strip), checked_by(check_tag), Field(max_length=2 * MAX_TAG)]


class ImportContacts(Payload):
    """A file of contacts, and how to read it."""

    file: Annotated[
        str | None, Field(max_length=100, description="Id of an uploaded file, from `POST /api/v1/files`.")
    ] = None
    path: Annotated[
        NotBlank | None,
        Field(
            max_length=1000, description="Instead of `file`: a path in the folder `imports` of the state folder."
        ),
    ] = None
    format: Annotated[
        Literal["auto", "csv", "xlsx", "jsonl"], Field(description="`auto` detects it from the file itself.")
    ] = "auto"
    encoding: Annotated[
        Annotated[str, Field(max_length=40), AfterValidator(_codec)] | None,
        Field(description="Of a text file, such as `cp1252`; detected if absent."),
    ] = None
    delimiter: Annotated[
        Annotated[str, Field(min_length=1, max_length=1), checked_by(_check_delimiter)] | None,
        Field(description="Of a CSV file; detected if absent: comma, semicolon, tab or bar."),
    ] = None
    sheet: Annotated[
        NotBlank | None,
        Field(max_length=100, description="Of an XLSX file; by default the first visible one with cells."),
    ] = None
    header: Annotated[bool | None, Field(description="Whether the file has a header row; detected if absent.")] = (
        None
    )
    columns: Annotated[
        dict[ColumnName, Meaning],
        Field(
            max_length=MAX_MAPPED_COLUMNS,
            description="What the columns hold, by name or by number from 1: `phone`, `name`, `first_name`, "
            "`last_name`, `email`, `tags`, `opted_out_at`, `attributes` (a JSON object), `attributes.NAME` or "
            "`ignore`. Those not named are guessed.",
        ),
    ] = Field(default_factory=dict)
    default_region: Annotated[
        Annotated[str, checked_by(check_region)] | None,
        Field(description="Country of numbers without a country code, such as `DE`; without it they are refused."),
    ] = None
    tags: Annotated[
        tuple[Tag, ...], Field(max_length=MAX_TAGS, description="Tags that every contact in the file gets.")
    ] = ()
    update: Annotated[
        Literal["merge", "skip"],
        Field(
            description="Existing contacts: `merge` lets what the file says win, keeps the rest and "
            "adds tags and attributes; `skip` leaves them as they are, but for an opt-out."
        ),
    ] = "merge"
    dry_run: Annotated[
        bool, Field(description="Checks everything and writes the report, but changes no contact.")
    ] = False

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if (self.file is None) == (self.path is None):
            raise invalid("give either file or path")
        return self

    @model_validator(mode="after")
    def _each_field_once(self) -> Self:
        several = (IGNORE, TAGS, ATTRIBUTES, OPTED_OUT)
        meanings = [meaning for meaning in self.columns.values() if meaning not in several]
        for meaning in meanings:
            if meanings.count(meaning) > 1:
                raise invalid(f"several columns are to be {meaning}; one can be")
        return self
