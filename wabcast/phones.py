"""Phone numbers as people write them become E.164, or a reason in plain words.

libphonenumber (the phonenumbers package) is the judge of what a number is. What must not break:
nothing is guessed that could make it a stranger's number. A number without its country, one
that Excel has rounded and one with letters in it are refused, and the fast path accepts only
what phonenumbers accepts too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from wabcast.errors import UsageError

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

MAX_CELL = 250  # characters; longer is a text and not a number

# Marks that word processors and chat programs leave around numbers and that nobody sees.
_UNSEEN = dict.fromkeys([0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F)])
_UNSEEN |= dict.fromkeys([*range(0x2060, 0x206A), 0xFEFF])
_PLAIN = re.compile(r"\+[0-9 .()/-]+")
_PUNCTUATION = str.maketrans("", "", " .()/-")
_LABEL = re.compile(
    r"(?:[a-z][a-z .-]*:(?!//)\s*)*"  # tel: whatsapp: Mobile:
    r"(?P<link>(?:https?://)?(?:www\.)?(?:wa\.me/|(?:api|web)\.whatsapp\.com/send/?\?phone=))?",
    re.IGNORECASE,
)
_SHORTENED = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*e\s*\+?\d+", re.IGNORECASE)
_STRONG = re.compile(r":::|;(?!ext=)|\||(?:\s|/)+(?=\+)")
_WEAK = re.compile(r"[/,\n\r]|\s+(?:or|oder|o|ou|and|und)\s+", re.IGNORECASE)
_EXTENSION = re.compile(r"(?:ext|x|#|\*|durchwahl)[ .=:]*\d", re.IGNORECASE)


class BadPhone(ValueError):
    """Not a number that can be written to; `reason` says why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def known_region(region: str) -> str:
    """`de` -> `DE`: an ISO 3166 country that phonenumbers knows. Raises UsageError."""
    import phonenumbers

    code = region.strip().upper()
    code = {"UK": "GB"}.get(code, code)
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise UsageError(
            f"there is no country {region!r}", hint="two letters: --region DE, GB, US, IN"
        )
    return code


def parse(raw: str, region: str | None = None) -> str:
    """E.164 with its plus. `region` (ISO 3166) is where numbers without a country code live.

    A cell with several numbers gives the first valid one. Raises BadPhone.
    """
    if _PLAIN.fullmatch(raw) and _surely_valid(quick := raw.translate(_PUNCTUATION)):
        return quick
    text = raw[: MAX_CELL + 1].translate(_UNSEEN).strip()
    if len(text) > MAX_CELL:
        raise BadPhone("too long to be a phone number")
    text = text.removeprefix("=").strip("\"'` ")  # Excel's ways of saying: this is text
    first: BadPhone | None = None
    for part in (piece.strip() for piece in _STRONG.split(text)):
        for piece in filter(None, _pieces(part)):
            try:
                return _one(piece, region)
            except BadPhone as exc:
                first = first or exc
    raise first or BadPhone("no phone number")


def _digits(text: str) -> str:
    return "".join(str(int(c)) for c in text if c.isdecimal())


def _pieces(part: str) -> list[str]:
    """Split at signs that stand between numbers but also, as in 06221/123456, inside of them."""
    pieces = [piece.strip() for piece in _WEAK.split(part) if _digits(piece)]
    shortest = min((len(_digits(piece)) for piece in pieces), default=0)
    anew = all(piece.lstrip("( ")[:1] in {"0", "+"} for piece in pieces[1:])
    return pieces if len(pieces) > 1 and shortest >= (7 if anew else 9) else [part]


def _one(text: str, region: str | None) -> str:
    if _SHORTENED.fullmatch(text):
        raise BadPhone(
            f"Excel has shortened this number to {text}; format the column as text and export again"
        )
    label = _LABEL.match(text)
    text = text[label.end() :] if label else text
    # Twilio writes whatsapp:+49..., gateways leave the plus out.
    international = bool(label and (label["link"] or re.match(r"whatsapp:[1-9]", label.string)))
    if label and label["link"]:
        text = re.split(r"[/?&#]", text, maxsplit=1)[0].replace("%2B", "+").replace("%20", " ")
    number, at, server = text.partition("@")
    if at:  # a WhatsApp address, as gateways export them
        if server.lower() not in {"s.whatsapp.net", "c.us"}:
            raise BadPhone("an address, but not of a person's number on WhatsApp")
        text, international = number, True
    text = re.sub(r"^(\d{7,15})\.0$", r"\1", text)  # a table program took it for a fraction
    digits = _digits(text)
    if not digits:
        raise BadPhone("no phone number" if not text.strip(" -./") else "has no digits in it")
    if _EXTENSION.search(text):
        raise BadPhone("has an extension, which WhatsApp cannot reach")
    if any(c.isalpha() for c in text):
        raise BadPhone("has letters in it")
    if len(digits) < 5:
        raise BadPhone("too short to be a phone number")

    if re.match(r"\(?\s*[+\uff0b]", text):
        return _of_country(text, digits.removeprefix("00"))
    if digits.startswith("00"):
        return _of_country(text, digits[2:])
    if international:
        return _of_country(text, digits)
    # Where areas begin with 0, a long number that begins with the country's own code was
    # written without its plus, even if some landline could look so (04915... in Germany).
    code = _code_of(region) if region else ""
    if digits[0] != "0" and digits.startswith(code) and len(digits) >= (11 if code else 10):
        try:
            return _judged("+" + digits, None)
        except BadPhone:  # then it is a national one
            pass
    if region:
        return _judged(digits, region.upper())
    raise BadPhone("no country code; give --region DE or write +49...")


def _code_of(region: str) -> str:
    import phonenumbers

    return str(phonenumbers.country_code_for_region(region.upper()))


def _of_country(text: str, digits: str) -> str:
    """Of a number written with its country code, whose (0) may or may not be dialled."""
    try:
        return _judged("+" + digits, None)
    except BadPhone:
        if not (zero := re.search(r"\(\s*0\s*\)", text)):
            raise
        before = sum(c.isdecimal() for c in text[: zero.start()])
        skipped = sum(c.isdecimal() for c in text) - len(digits)
        at = before - skipped
        return _judged("+" + digits[:at] + digits[at + 1 :], None)


def _judged(number: str, region: str | None) -> str:
    import phonenumbers
    from phonenumbers import NumberParseException, ValidationResult

    if number.startswith("+") and _surely_valid(number):
        return number
    try:
        parsed = phonenumbers.parse(number, region)
    except NumberParseException as exc:
        match exc.error_type:
            case NumberParseException.INVALID_COUNTRY_CODE:
                raise BadPhone("no country has this code") from None
            case NumberParseException.TOO_LONG:
                raise BadPhone("too long to be a phone number") from None
            case _:
                raise BadPhone("too short to be a phone number") from None
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if phonenumbers.is_valid_number(parsed) and possible == ValidationResult.IS_POSSIBLE:
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    where = region or f"+{parsed.country_code}"
    match possible:
        case ValidationResult.TOO_SHORT | ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
            raise BadPhone(f"too short for a number of {where}")
        case ValidationResult.TOO_LONG:
            raise BadPhone(f"too long for a number of {where}")
        case _:
            raise BadPhone(f"not a number that is in use in {where}")


@lru_cache(maxsize=512)
def _shape(code: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str] | None] | None:
    """What a calling code's fixed and mobile numbers look like, from phonenumbers' metadata.

    Only of the code's main country: `region_code_for_number` asks it first, so a number of this
    shape is valid; anything else takes the long way. The third pattern are national prefixes,
    which the long way would cut off.
    """
    import phonenumbers
    from phonenumbers import PhoneMetadata

    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    if not regions or (data := PhoneMetadata.metadata_for_region(regions[0], None)) is None:
        return None
    general = data.general_desc
    if data.leading_digits or not general or not general.national_number_pattern:
        return None
    kinds = [
        rf"(?=\d{{{length}}}\Z)(?:{kind.national_number_pattern})"
        for kind in (data.mobile, data.fixed_line)
        if kind and kind.national_number_pattern
        for length in kind.possible_length or general.possible_length
        if length > 0
    ]
    prefix = data.national_prefix_for_parsing
    return (
        re.compile(general.national_number_pattern),
        re.compile("|".join(kinds) or r"(?!)"),
        re.compile(prefix) if prefix else None,
    )


def _surely_valid(number: str) -> bool:
    """Whether `+` and ASCII digits are beyond doubt; False says only that they must be judged."""
    if not 8 <= len(number) <= 16 or number[1] == "0":
        return False
    for end in (2, 3, 4):  # no calling code is the beginning of another
        if (shape := _shape(number[1:end])) is not None:
            general, kinds, prefix = shape
            national = number[end:]
            return bool(
                general.fullmatch(national)
                and kinds.fullmatch(national)
                and not (prefix and prefix.match(national))
            )
    return False


def _parsed(phone: str) -> PhoneNumber | None:
    import phonenumbers

    try:
        return phonenumbers.parse(phone, None)
    except phonenumbers.NumberParseException:
        return None


def region_of(phone: str) -> str | None:
    """The ISO 3166 country of an E.164 number; None where it belongs to no single one."""
    import phonenumbers

    if (number := _parsed(phone)) is None:
        return None
    region = phonenumbers.region_code_for_number(number)
    return region if region and region.isalpha() else None


def timezones_of(phone: str) -> tuple[str, ...]:
    """IANA names of the zones an E.164 number may be in; empty where that is not known."""
    from phonenumbers import timezone

    if (number := _parsed(phone)) is None:
        return ()
    zones = timezone.time_zones_for_number(number)
    return tuple(zone for zone in zones if zone != timezone.UNKNOWN_TIMEZONE)
