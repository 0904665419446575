"""Phone numbers as people write them."""

from __future__ import annotations

import pytest

from crmd.records.phones import normal_phone


@pytest.mark.parametrize(
    ("text", "region", "phone"),
    [
        ("+49 170 1234567", None, "+491701234567"),
        ("+491701234567", "US", "+491701234567"),
        ("0170 / 123 45 67", "DE", "+491701234567"),
        ("(030) 901820", "DE", "+4930901820"),
        ("+49 (0)170 1234567", None, "+491701234567"),
        ("00491701234567", None, "+491701234567"),
        ("00491701234567", "DE", "+491701234567"),
        ("tel:+49-170-1234567", None, "+491701234567"),
        ("'+491701234567", None, "+491701234567"),
        ("\u202a+49 170 1234567\u202c", None, "+491701234567"),
        ("\uff0b\uff14\uff19 170 1234567", None, "+491701234567"),  # wide characters
        ("+49170 1234567 ext 5", None, "+491701234567"),
        ("+1 555 000 1111", None, "+15550001111"),  # not in use, and right in length: tests and demos have such
        ("+5511987654321", None, "+5511987654321"),
    ],
)
def test_read(text: str, region: str | None, phone: str) -> None:
    assert normal_phone(text, region) == phone
    assert normal_phone(phone) == phone


@pytest.mark.parametrize(
    ("text", "region", "reason"),
    [
        ("", "DE", "is no phone number"),
        ("   ", "DE", "is no phone number"),
        ("n/a", "DE", "is no phone number"),
        ("1.70E+11", "DE", "is no phone number"),
        ("=+491701234567", None, "is no phone number"),
        ("+49\x00170", None, "is"),
        ("4" * 500, "DE", "is no phone number"),
        ("491701234567", None, "has no country code; write it like"),
        ("0170 1234567", None, "has no country code; write it like"),
        ("+999 123 4567", None, "has a country code that does not exist"),
        ("+49 1", None, "is too short"),
        ("+491701234567890123", None, "is too short or too long"),
        ("+49170123456789012345", None, "is too long"),
        ("12345", "DE", "is no number in use in DE"),
        ("555 000 1111", "US", "is no number in use in US"),
        ("0170 1234567", "Germany", '"Germany" is no country; write it like "DE"'),
    ],
)
def test_refused_with_a_reason(text: str, region: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        normal_phone(text, region)
