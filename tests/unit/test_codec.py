"""Job JSON comes back as it went in, whatever it holds; what cannot is refused with the reason."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.engine.codec import (
    MAX_DEPTH,
    MAX_JOB_BYTES,
    MAX_RESULT_BYTES,
    Fragment,
    Unreadable,
    decode,
    encode,
    encode_payload,
    encode_result,
)
from crmd.errors import InvalidPayload, JobTooLarge

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**200), 2**200),
        st.floats(),
        st.text(st.characters()),  # surrogates included
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)
FINITE = VALUES.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value))


def same(left: Any, right: Any) -> bool:
    """Equal, with NaN equal to itself, and 1, 1.0 and True apart."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return repr(left) == repr(right)
    return bool(left == right)


@given(value=VALUES)
def test_what_a_plain_program_wrote_survives_a_change_of_state(value: Any) -> None:
    """A plain SAQ program writes with json.dumps: NaN, infinities, lone surrogates and all."""
    stored = json.dumps({"function": "work", "kwargs": {"v": value}, "none": None}).encode()
    once = encode(decode(stored) | {"status": "active"})
    twice = decode(encode(decode(once)))
    assert same(twice, {"function": "work", "kwargs": {"v": value}, "none": None, "status": "active"})


@given(value=VALUES)
def test_arguments_that_stay_encoded_do_too(value: Any) -> None:
    data = {"n": 2**70, "kwargs": Fragment(encode({"v": value})), "none": None}
    assert same(decode(encode(data)), {"n": 2**70, "kwargs": {"v": value}, "none": None})
    assert same(decode(encode({**data, "n": 1})), {"n": 1, "kwargs": {"v": value}, "none": None})


@given(value=FINITE)
def test_a_payload_and_a_result_come_back_as_they_went_in(value: Any) -> None:
    assert same(decode(encode_payload({"kwargs": value}))["kwargs"], value)
    assert same(decode(encode({"result": encode_result(value)}))["result"], value)


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**300,
        0.1,
        1e308,
        5e-324,
        -0.0,
        1.7976931348623157e308,
        "\ud800",
        "\udfff\ud800",
        "".join(chr(plane * 0x10000 + 0x1234) for plane in range(17)),
        "\x00\x1f\x7f\u2028",
        "12345678901234567890",
    ],
)
def test_the_edges_of_json(value: Any) -> None:
    assert same(decode(encode_payload({"v": value}))["v"], value)
    assert same(decode(encode(decode(json.dumps({"v": value}).encode())))["v"], value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1, 2}, object(), b"bytes", 1j])
def test_what_json_cannot_say_is_refused_in_a_payload(value: Any) -> None:
    for payload in ({"v": value}, {"v": [None, {"deep": value}]}):
        with pytest.raises(InvalidPayload, match="the payload is not JSON"):
            encode_payload(payload)
    with pytest.raises(ValueError, match="the result is not JSON"):
        encode_result([None, value])


def test_a_payload_that_holds_itself_is_refused() -> None:
    payload: dict[str, Any] = {}
    payload["self"] = payload
    with pytest.raises(InvalidPayload, match="the payload is not JSON"):
        encode_payload(payload)


def nest(levels: int, kind: str = "[") -> Any:
    """`levels` lists or dicts, one in the other."""
    value: Any = [] if kind == "[" else {}
    for _ in range(levels - 1):
        value = [value] if kind == "[" else {"x": value}
    return value


@pytest.mark.parametrize("kind", ["[", "{"])
@pytest.mark.parametrize("levels", [1, 100, 253, 254, 255, MAX_DEPTH - 1])
def test_nesting_up_to_the_limit_comes_back(levels: int, kind: str) -> None:
    value = nest(levels, kind)
    assert decode(encode_payload({"v": value})) == {"v": value}
    assert decode(encode(decode(orjson_free({"v": value})))) == {"v": value}
    assert decode(encode({"v": encode_result(value)})) == {"v": value}


def orjson_free(value: Any) -> bytes:
    """JSON as a plain program writes it."""
    return json.dumps(value).encode()


@pytest.mark.parametrize("kind", ["[", "{"])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 800, 1_000, 1_024, 10_000])
def test_deeper_nesting_is_refused_everywhere(levels: int, kind: str) -> None:
    with pytest.raises(InvalidPayload):
        encode_payload({"v": nest(levels, kind)})
    with pytest.raises(ValueError, match="the result"):
        encode_result(nest(levels, kind))
    opened, closed = ("[", "]") if kind == "[" else ('{"x":', "}")
    inner = "[]" if kind == "[" else "{}"
    with pytest.raises(Unreadable):
        decode(('{"v":' + opened * (levels - 1) + inner + closed * (levels - 1) + "}").encode())


def test_many_brackets_are_not_deep() -> None:
    value = {"list": [[] for _ in range(2_000)], "text": "[" * 5_000, 'quo"te\\': "{" * 5_000}
    assert decode(encode_payload(value)) == value
    assert decode(encode(decode(json.dumps(value).encode()))) == value


def test_a_hostile_text_is_looked_through_in_no_time() -> None:
    """Quotes and backslashes without end must not make the search for strings go back and forth."""
    hostile = b'{"v":"' + b"\\" * 99_999 + b"[" * 100_000
    with pytest.raises(Unreadable):
        decode(hostile)
    value = {"v": '\\"[' * 20_000}
    assert decode(encode_payload(value)) == value


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"{",
        b'{"a":1}x',
        b"nul",
        b'"text"',
        b"[]",
        b"7",
        b"null",
        b"true",
        b"NaN",
        b"1" * 5_000,
        b"{}" * 2,
    ],
)
def test_what_is_no_job_is_unreadable(document: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(document)


@given(document=st.binary(max_size=200))
def test_random_bytes_are_a_job_or_unreadable(document: bytes) -> None:
    try:
        data = decode(document)
    except Unreadable:
        return
    assert same(decode(encode(data)), data)


@given(value=VALUES, at=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_job_is_a_job_or_unreadable(value: Any, at: int, byte: int) -> None:
    document = bytearray(json.dumps({"kwargs": {"v": value}}).encode())
    document[at % len(document)] = byte
    try:
        data = decode(bytes(document))
    except Unreadable:
        return
    assert same(decode(encode(data)), data)


def test_sizes_up_to_the_limit_and_not_beyond() -> None:
    frame = len(encode_payload({"v": ""}))
    for size in (0, 1, 1_000, 65_536, MAX_JOB_BYTES - frame):
        payload = {"v": "x" * size}
        assert decode(encode_payload(payload)) == payload
    for size in (MAX_JOB_BYTES - frame + 1, 10_000_000):
        with pytest.raises(JobTooLarge, match=r"at most 262,144"):
            encode_payload({"v": "x" * size})
    assert encode_result("x" * (MAX_RESULT_BYTES - 2)).raw[:3] == b'"xx'
    with pytest.raises(ValueError, match=r"at most 262,144"):
        encode_result("x" * (MAX_RESULT_BYTES - 1))
    with pytest.raises(JobTooLarge):  # bytes count, not characters
        encode_payload({"v": "ü" * (MAX_JOB_BYTES // 2)})


def test_encoding_is_compact() -> None:
    assert encode({"a": [1, None], "b": "ü"}) == '{"a":[1,null],"b":"ü"}'.encode()
    assert encode_payload({"a": {"b": 1}}) == b'{"a":{"b":1}}'


def test_what_only_looks_like_a_fragment_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})
    assert orjson.loads(encode({"a": Fragment(b"[1]"), "n": 2**70}))["a"] == [1]
