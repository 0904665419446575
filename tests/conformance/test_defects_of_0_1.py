"""The table of the defects of 0.1.0 is whole, and names tests that exist."""

from __future__ import annotations

import importlib

import pytest

from tests.conformance.defects_of_0_1 import DEFECTS, Defect


def test_no_defect_is_missing() -> None:
    assert [defect.number for defect in DEFECTS] == list(range(1, 28))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: str(defect.number))
def test_a_defect_is_described_and_its_tests_exist(defect: Defect) -> None:
    assert defect.was
    assert defect.now
    assert defect.tests
    for name in defect.tests:
        module, _, function = name.rpartition(".")
        assert function.startswith("test_")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), function, None)), name
