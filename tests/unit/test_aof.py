"""Telling a torn tail of an append-only file from damage."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crmd.embedded.aof import scan_file

words = st.binary(max_size=40)
plain = st.lists(words, min_size=1, max_size=4).filter(lambda words: words[0].upper() not in (b"MULTI", b"EXEC"))
transactions = st.lists(plain, max_size=3).map(lambda inside: [[b"MULTI"], *inside, [b"EXEC"]])
batches = st.lists(st.one_of(plain.map(lambda command: [command]), transactions), min_size=1, max_size=8)


def encoded(command: list[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
    return b"".join(parts)


def scanned(content: bytes) -> tuple[int, bool]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        scan = scan_file(Path(file.name))
    assert scan.size_bytes == len(content)
    return scan.good_bytes, scan.torn


@given(batches, st.data())
def test_every_cut_is_torn_and_keeps_all_that_is_whole(
    batches: list[list[list[bytes]]], data: st.DataObject
) -> None:
    blocks = [b"".join(map(encoded, batch)) for batch in batches]
    content = b"".join(blocks)
    cut = data.draw(st.integers(0, len(content)))
    whole = 0
    for block in blocks:
        if whole + len(block) > cut:
            break
        whole += len(block)
    good, torn = scanned(content[:cut])
    assert good == whole
    assert torn == (whole < cut)


@given(batches, st.integers(1, 70_000))
def test_zeros_after_the_end_are_a_torn_tail(batches: list[list[list[bytes]]], zeros: int) -> None:
    content = b"".join(encoded(command) for batch in batches for command in batch)
    assert scanned(content + bytes(zeros)) == (len(content), True)


def test_an_empty_file_is_whole() -> None:
    assert scanned(b"") == (0, False)


def test_only_zeros_are_torn() -> None:
    assert scanned(bytes(100)) == (0, True)


def test_a_length_that_swallows_commands_is_damage() -> None:
    first, second = encoded([b"SET", b"a", b"1"]), encoded([b"SET", b"b", b"2"])
    assert scanned(first + second.replace(b"$1", b"$99999", 1) + first) == (len(first), False)


def test_a_length_too_short_is_damage() -> None:
    first = encoded([b"SET", b"a", b"12345"])
    assert scanned(first + first.replace(b"$5", b"$3") + first) == (len(first), False)


def test_garbage_is_damage() -> None:
    first = encoded([b"SET", b"a", b"1"])
    for garbage in (b"garbage", b"*x\r\n", b"*1\r\n#1\r\na\r\n", b"*99999999999999999999999999"):
        assert scanned(first + garbage) == (len(first), False)
