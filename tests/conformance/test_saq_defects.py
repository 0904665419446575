"""The table of stock SAQ's defects is whole, and names tests that exist."""

from __future__ import annotations

import importlib

import pytest

from tests.conformance.saq_defects import DEFECTS, Defect


def test_no_defect_is_missing() -> None:
    wanted = [*(f"L{n}" for n in range(1, 16)), *(f"D{n}" for n in range(1, 8)), *(f"S{n}" for n in range(1, 15))]
    assert [defect.id for defect in DEFECTS] == wanted


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.id)
def test_a_defect_is_described_and_its_tests_exist(defect: Defect) -> None:
    assert defect.saq
    assert defect.crmd
    assert defect.tests
    for name in defect.tests:
        module, _, function = name.rpartition(".")
        assert function.startswith("test_")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), function, None)), name
