"""The tables of the defects of stock SAQ and of 0.1.0 are whole, and name tests that exist."""

from __future__ import annotations

import importlib

import pytest

from tests.conformance import defects_of_0_1, saq_defects
from tests.conformance.saq_defects import Defect

OF_SAQ = [*(f"L{n}" for n in range(1, 16)), *(f"D{n}" for n in range(1, 8)), *(f"S{n}" for n in range(1, 15))]
OF_0_1 = [str(number) for number in range(1, 28)]


@pytest.mark.parametrize(
    ("defects", "wanted"),
    [(saq_defects.DEFECTS, OF_SAQ), (defects_of_0_1.DEFECTS, OF_0_1)],
    ids=["saq", "0.1.0"],
)
def test_no_defect_is_missing(defects: tuple[Defect, ...], wanted: list[str]) -> None:
    assert [defect.id for defect in defects] == wanted


@pytest.mark.parametrize("defect", saq_defects.DEFECTS + defects_of_0_1.DEFECTS, ids=lambda defect: defect.id)
def test_a_defect_is_described_and_its_tests_exist(defect: Defect) -> None:
    assert defect.was
    assert defect.now
    assert defect.tests
    for name in defect.tests:
        module, _, function = name.rpartition(".")
        assert function.startswith("test_")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), function, None)), name
