"""Numbers as people write them; and the fast path, which may never know better."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import phones
from wabcast.errors import UsageError
from wabcast.phones import BadPhone, known_region, parse, region_of, timezones_of

DE = "+4915112345678"


@pytest.mark.parametrize(
    ("raw", "region", "phone"),
    [
        ("+4915112345678", None, DE),
        ("+49 151 12345678", None, DE),
        ("+49 (0)151 12345678", None, DE),
        ("+49(0) 151/12345678", None, DE),
        ("(+49) 151 12345678", None, DE),
        ("004915112345678", None, DE),
        ("0049 151-1234.5678", "US", DE),
        ("0151 12345678", "DE", DE),
        ("0151/12345678", "de", DE),
        ("15112345678", "DE", DE),
        ("4915112345678", None, DE),
        ("4915112345678", "DE", DE),
        ("4915112345678.0", None, DE),
        ("\u202a+49\u00a0151\u202f12345678\u202c", None, DE),
        ("+٤٩١٥١١٢٣٤٥٦٧٨", None, DE),
        ("\uff0b49 151 12345678", None, DE),
        ("9198765432", "IN", "+919198765432"),
        ("tel:+49-151-12345678", None, DE),
        ("whatsapp:+4915112345678", None, DE),
        ("whatsapp:4915112345678", "GB", DE),
        ("Mobile: +49 151 12345678", None, DE),
        ("https://wa.me/4915112345678?text=hi", None, DE),
        ("wa.me/4915112345678", "GB", DE),
        ("https://api.whatsapp.com/send?phone=4915112345678&text=x", None, DE),
        ("4915112345678@s.whatsapp.net", "GB", DE),
        ("'+4915112345678", None, DE),
        ('="+4915112345678"', None, DE),
        ("+49 1 ::: +49 151 12345678", None, DE),
        ("+4915112345678; +4915112345679", None, DE),
        ("0151 12345678 / 0151 12345679", "DE", DE),
        ("+4915112345678 +4915112345679", None, DE),
        ("0151 12345678\n0151 12345679", "DE", DE),
        ("+34 (0)612345678", None, "+34612345678"),
        ("+39 06 6982 1234", None, "+390669821234"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("212-555-0123/212-555-0124", "US", "+12125550123"),
        ("011 49 151 12345678", "US", DE),
        ("06221/1234567", "DE", "+4962211234567"),
    ],
)
def test_a_number_as_it_is_written(raw: str, region: str | None, phone: str) -> None:
    assert parse(raw, region) == phone


@pytest.mark.parametrize(
    ("raw", "region", "reason"),
    [
        ("", None, "no phone number"),
        (" - ", None, "no phone number"),
        ("n/a", None, "no digits"),
        ("0151 12345678", None, "no country code; give --region DE or write +49..."),
        ("4.91512E+11", None, "Excel has shortened this number"),
        ("4,91512E+11", "DE", "format the column as text and export again"),
        ("+4.9e11", None, "Excel"),
        ("1-800-FLOWERS", "US", "letters"),
        ("+1 212 555 0123 ext. 5", None, "extension"),
        ("tel:+12125550123;ext=5", None, "extension"),
        ("112", "DE", "too short"),
        ("+49151", None, "too short"),
        ("+49151123456789012345", None, "too long"),
        ("+999 12345678", None, "no country has this code"),
        ("+447700900123", None, "not a number that is in use in +44"),  # reserved for drama
        ("0151 123", "US", "too short"),
        ("x" * 100_000, None, "too long"),
        ("123456789-12345@g.us", None, "address"),
        ("4915112345678", "GB", ""),
        ("049/15112345678", None, ""),  # no part of a number is a number
        ("+49 (0)(0)(0)", None, ""),
    ],
)
def test_what_is_refused_says_why(raw: str, region: str | None, reason: str) -> None:
    with pytest.raises(BadPhone) as refusal:
        parse(raw, region)
    assert reason in refusal.value.reason


def test_regions_are_countries() -> None:
    assert [known_region(r) for r in ("de", " US ", "UK")] == ["DE", "US", "GB"]
    for wrong in ("", "Germany", "XX"):
        with pytest.raises(UsageError):
            known_region(wrong)


def judged(number: str) -> str | None:
    """What phonenumbers says of it, without any of our short cuts."""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return None
    if not (phonenumbers.is_possible_number(parsed) and phonenumbers.is_valid_number(parsed)):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
EXAMPLES = [
    phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    for region in sorted(phonenumbers.SUPPORTED_REGIONS)
    for kind in (0, 1, 2, 3, 6, 7)
    if (example := phonenumbers.example_number_for_type(region, kind)) is not None
]


def test_every_example_number_of_every_country_is_accepted_as_it_stands() -> None:
    assert len(EXAMPLES) > 700
    assert [n for n in EXAMPLES if judged(n) == n and parse(n, None) != n] == []


def test_the_fast_path_agrees_with_phonenumbers_around_every_example() -> None:
    wrong, fast = [], 0
    for example in EXAMPLES:
        for at in range(2, len(example)):
            for digit in "0579":
                for number in (
                    example[:at] + digit + example[at + 1 :],
                    example[:at] + digit + example[at:],
                ):
                    if phones._surely_valid(number):
                        fast += 1
                        if fast % 5 == 0 and judged(number) != number:
                            wrong.append(number)
    assert wrong == []
    assert fast > 10_000


@given(st.sampled_from(CODES), st.from_regex(r"\A[0-9]{4,13}\Z"))
def test_parse_and_phonenumbers_agree_on_any_number(code: int, rest: str) -> None:
    number = f"+{code}{rest}"
    try:
        ours: str | None = parse(number, None)
    except BadPhone:
        ours = None
    assert ours == judged(number)


@given(st.text(max_size=60), st.sampled_from([None, "DE", "US", "IT"]))
def test_any_text_is_a_number_or_a_reason(text: str, region: str | None) -> None:
    phone: str | None
    try:
        phone = parse(text, region)
    except BadPhone as exc:
        phone = None if exc.reason else "a refusal without a reason"
    assert phone is None or judged(phone) == phone


@given(st.sampled_from(EXAMPLES), st.lists(st.sampled_from([*" .-()/\u00a0\u200e"]), max_size=6))
def test_spelling_does_not_matter(example: str, marks: list[str]) -> None:
    spelled = example[:4] + "".join(m for m in marks if m not in "()") + example[4:]
    if judged(example) == example:
        assert parse(spelled, None) == example


def test_where_a_number_lives() -> None:
    assert region_of("+12125550123") == "US"
    assert region_of(DE) == "DE"
    assert region_of("+80012345678") is None
    assert region_of("nonsense") is None
    assert timezones_of(DE) == ("Europe/Berlin",)
    assert "America/New_York" in timezones_of("+12125550123")
    assert timezones_of("nonsense") == ()
