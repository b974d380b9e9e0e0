"""Text from outside, made such that it can be stored and sent on.

Pure. Invariant: what `load_json` and `clean` return holds no NUL and no lone surrogate (half an
emoji that somebody has cut off), which neither UTF-8 nor the database can hold.
"""

from __future__ import annotations

import json
import re
from json import JSONDecodeError, JSONDecoder
from typing import Any

BROKEN = re.compile("[\x00\ud800-\udfff]")
"""NUL, and the surrogates."""

MOST_DIGITS = 1000
"""A longer integer is read as no value: it is no number that anybody means."""

# In JSON a NUL is an escape, and so is half a character: anything else is no JSON, or no UTF-8.
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def broken(text: str) -> str:
    """What `text` holds that no text can hold, in words; empty where it is whole."""
    found = BROKEN.search(text)
    if found is None:
        return ""
    return "the character \\x00" if found[0] == "\0" else "half a character"


def clean_text(text: str) -> str:
    """`text` without NUL, two halves of a character joined and a lone one as U+FFFD."""
    if BROKEN.search(text) is None:
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "")


def clean(value: Any) -> Any:
    """The same for whatever JSON or a form has: keys and values, at any depth."""
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean(key): clean(inner) for key, inner in value.items()}
        case list():
            return [clean(inner) for inner in value]
        case _:
            return value


def load_json(body: bytes) -> Any:
    """What `body` says. Raises ValueError or RecursionError where it is no JSON.

    NaN, the infinities and integers of more than a thousand digits are read as null: one odd
    number must not cost the news that stand beside it.
    """
    text = body.decode(json.detect_encoding(body), "replace")
    try:
        value = _QUICK.decode(text)
    except JSONDecodeError:
        raise
    except ValueError:  # an integer with more digits than Python reads
        value = _PATIENT.decode(text)
    return clean(value) if _ESCAPED.search(text) else value


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= MOST_DIGITS else None


def _nothing(_name: str) -> None:
    """For NaN and the infinities."""


_QUICK = JSONDecoder(parse_constant=_nothing)
_PATIENT = JSONDecoder(parse_constant=_nothing, parse_int=_integer)
