"""What crmd 0.1.0 (commit 8f06435) did wrong under attack and failure, and the tests that show it mended.

Each of these tests failed on 0.1.0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One defect of crmd 0.1.0."""

    number: int
    was: str
    now: str
    tests: tuple[str, ...]
    """`module.test`, below `tests`."""


DEFECTS: tuple[Defect, ...] = (
    # 1
    # 2
    # 3
    # 4
    Defect(
        5,
        "a compressed request body was unpacked in the event loop, for anybody, before and even after the answer",
        "a body with a content or transfer coding is refused with 415 and never unpacked",
        (
            "web.test_codings.test_a_compressed_body_is_refused_whatever_the_path",
            "web.test_codings.test_a_compressed_body_in_chunks_is_refused_too",
            "web.test_codings.test_what_claims_to_be_compressed_and_is_not_is_no_error_of_ours",
            "web.test_codings.test_an_upload_that_declares_a_coding_is_refused_and_a_gzip_file_is_kept_as_it_is",
        ),
    ),
    # 6
    # 7
    # 8
    # 9
    # 10
    # 11
    # 12
    # 13
    # 14
    # 15
    # 16
    # 17
    # 18
    # 19
    # 20
    # 21
    # 22
    # 23
    # 24
    # 25
    # 26
    # 27
)
