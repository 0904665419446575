"""Phone numbers as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmd.crm.contacts.phones import normal_phone


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
        # as WhatsApp writes them
        ("+5215512345678", None, "+5215512345678"),
        ("+52 1 55 1234 5678", "DE", "+5215512345678"),
        ("+525512345678", None, "+525512345678"),
        ("+5491123456789", None, "+5491123456789"),
        ("+541123456789", None, "+541123456789"),
        ("+551181234567", None, "+551181234567"),
        # signs of other scripts
        ("+49\u202f170\u202f1234567", None, "+491701234567"),
        ("+49\u2009170\u20091234567", None, "+491701234567"),
        ("+49\u00a0170\u30001234567\u2003", None, "+491701234567"),
        ("0170\u202f/\u2009123 45 67", "DE", "+491701234567"),
        ("+49\u2011170\u20131234\u2014567", None, "+491701234567"),
        ("+49\u2212170\uff0d1234567", None, "+491701234567"),
        ("\uff08\uff10\uff13\uff10\uff09\u3000\uff19\uff10\uff11\uff18\uff12\uff10", "DE", "+4930901820"),
        ("+\u0664\u0669 170 1234567", None, "+491701234567"),  # Arabic digits
        ("+49\u00ad170\u200b1234567\u2060", None, "+491701234567"),
    ],
)
def test_read(text: str, region: str | None, phone: str) -> None:
    assert normal_phone(text, region) == phone
    assert normal_phone(phone) == phone


@pytest.mark.parametrize(
    ("text", "region", "reason"),
    [
        ("", "DE", "is not a phone number"),
        ("   ", "DE", "is not a phone number"),
        ("n/a", "DE", "is not a phone number"),
        ("1.70E+11", "DE", "is not a phone number"),
        ("=+491701234567", None, "is not a phone number"),
        ("+49\x00170", None, "is"),
        ("4" * 500, "DE", "is not a phone number"),
        ("491701234567", None, "has no country code; write it like"),
        ("0170 1234567", None, "has no country code; write it like"),
        ("+1 555 0100", None, "the area code is missing"),
        ("+15550100", "US", "the area code is missing"),
        ("+1 555 01001", None, "is too short or too long"),
        ("555 0100", "US", "is not a number in use in US"),
        ("+52155123456789", None, "is too short or too long"),
        ("+\u00b2\u00b3 170 1234567", None, "is"),
        ("+999 123 4567", None, "has a country code that does not exist"),
        ("+49 1", None, "is too short"),
        ("+491701234567890123", None, "is too short or too long"),
        ("+49170123456789012345", None, "is too long"),
        ("12345", "DE", "is not a number in use in DE"),
        ("555 000 1111", "US", "is not a number in use in US"),
        ("0170 1234567", "Germany", '"Germany" is not a country; write it like "DE"'),
    ],
)
def test_refused_with_a_reason(text: str, region: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        normal_phone(text, region)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ("521", "52", "549", "54", "55119", "5511", "49151", "1202", "44770", "91987", "62812", "39", "7")
    ),
    st.integers(1_000_000, 9_999_999_999),
    st.sampled_from((None, "MX", "BR", "AR", "DE", "US")),
)
def test_what_was_read_once_is_read_the_same_again(begin: str, rest: int, region: str | None) -> None:
    try:
        phone = normal_phone(f"+{begin} {rest}", region)
    except ValueError:
        return
    assert normal_phone(phone, region) == phone
