"""Large JSON is parsed in turn with other work, to what the standard library makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.http import bodies as large_json
from crmd.http.bodies import TimeSlice, loads_in_slices

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
SEPARATORS = st.sampled_from([(",", ":"), (" ,\n", "\t: "), (", ", ": ")])


class Others:
    """Counts how often they may go on."""

    def __init__(self) -> None:
        self.turns = 0

    async def go_on(self) -> None:
        self.turns += 1


async def parse(raw: bytes) -> Any:
    return await loads_in_slices(raw, json.JSONDecoder(), TimeSlice(Others().go_on))


@given(VALUES, SEPARATORS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
async def test_a_document_is_read_as_by_the_standard_library(
    value: Any, separators: tuple[str, str], encoding: str, escaped: bool
) -> None:
    text = f" {json.dumps(value, separators=separators, ensure_ascii=escaped)}\r\n"
    assert await parse(text.encode(encoding, "surrogatepass")) == value


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.data())
async def test_a_broken_document_is_refused_as_by_the_standard_library(value: Any, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(value), "utf-8")
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        expected = json.loads(bytes(raw))
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            await parse(bytes(raw))
    else:
        assert repr(await parse(bytes(raw))) == repr(expected)


@pytest.mark.parametrize(
    "text", ['{"a": [1,]}', '{"a": [1 2]}', '{"a": [1], }', '{"a": [1]} x', '{"a" [1]}', "{", ""]
)
async def test_mistakes_around_arrays_are_named(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        await parse(text.encode())


async def test_the_last_of_two_members_of_one_name_counts() -> None:
    assert await parse(b'{"a": [1], "b": [], "a": [2]}') == {"a": [2], "b": []}


async def test_others_get_their_turn_between_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "SLICE_SECONDS", 0.0)
    others = Others()
    await loads_in_slices(b'{"jobs": [{"n": [1, 2]}, {}, 3]}', json.JSONDecoder(), TimeSlice(others.go_on))
    assert others.turns == 3
