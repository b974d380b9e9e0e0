"""What a hole can do with a value: the filters and operators, each with its bound.

A message is short, so anything long is a mistake or an attack. A reader must not add a filter here
without asking what it does with `10 ** 9`: whatever can make a long thing out of short ones asks
`bounded` before it makes it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA

# Twice what the longest WhatsApp body holds (PROVIDERS 5: 32,768), so that a length is refused
# by its own rule, in its own words, and only a bomb ever meets this one.
LONGEST = 65_536
_STEPS = 10_000
_BITS = 256
_NUMBERS = frozenset({int, float, bool})
PLAIN = _NUMBERS | {str}


class _Render(threading.local):
    """What happened while one message was rendered, in this thread."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > _STEPS:
            raise SecurityError(f"more than {_STEPS:,} steps of loops and calls")


render = _Render()


def bounded(length: int) -> None:
    """Refuses a text of so many characters, before it is made."""
    if length > LONGEST:
        raise SecurityError(f"it makes a text of more than {LONGEST:,} characters")


def say(value: Any) -> Any:
    """What a hole prints: text, a number, or nothing; never an object. Jinja's `finalize`."""
    if value.__class__ in PLAIN or isinstance(value, Undefined):
        return value
    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict)):
        raise SecurityError("a list cannot be said; join it: {{ ... | join(', ') }}")
    raise SecurityError("a function cannot be said; use a filter: {{ name | title }}")


def join(items: Iterable[Any], glue: str = "") -> str:
    """The filter `join`, and what `~` is compiled to."""
    parts: list[str] = []
    length = 0
    for item in items:
        part = str(say(item))
        length += len(part) + len(glue)
        bounded(length)
        parts.append(part)
    return str(glue).join(parts)


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    source, old, new = str(text), str(old), str(new)
    times = source.count(old) if count < 0 else min(count, source.count(old))
    bounded(len(source) + times * len(new))
    return source.replace(old, new, count)


_FORMAT = re.compile(r"%(?:%|[-+ #0]*\d{0,2}(?:\.\d{0,2})?[sdifFeEgG])")


def _format(pattern: Any, *values: Any) -> str:
    if "%" in _FORMAT.sub("", str(pattern)):
        raise SecurityError("format knows %s, %d and %.2f, with widths below 100")
    said: str = str(pattern) % tuple(say(value) for value in values)
    return said


def _round(value: Any, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > 15:
        raise SecurityError("round takes at most 15 places")
    rounded: float = JINJA["round"](value, precision, method)
    return rounded


def _urlencode(value: Any) -> str:
    encoded = str(JINJA["urlencode"](str(say(value))))
    bounded(len(encoded))
    return encoded


def loop(value: Iterable[Any]) -> list[Any]:
    """What every `for` goes through: its turns are counted, over the whole message."""
    items = list(islice(value, _STEPS + 1))
    render.step(len(items))
    return items


def words(text: str) -> frozenset[str]:
    """The words of a list written as a sentence."""
    return frozenset(text.split())


def _of_text(told: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that may not be given a list: as text, a list of lists has no bound."""

    @wraps(told)
    def checked(*values: Any, **named: Any) -> Any:
        for value in values:
            if isinstance(value, (list, tuple, dict, Iterator)):
                say(value)
        return told(*values, **named)

    return checked


FILTERS: dict[str, Callable[..., Any]] = {
    **{
        name: _of_text(JINJA[name])
        for name in words(
            "capitalize float int lower round string title trim truncate upper wordcount"
        )
    },
    **{
        name: JINJA[name]
        for name in words(
            "abs count d default first last length list map max min reject reverse select sort sum"
            " unique"
        )
    },
    **{own.__name__[1:]: _of_text(own) for own in (_format, _replace, _round, _urlencode)},
    "join": join,
}


def weigh(sign: str, left: Any, right: Any) -> None:
    """Refuses an operation before it has made something too large."""
    bits = 0
    if sign == "+":
        if not {left.__class__, right.__class__} <= _NUMBERS:
            if isinstance(left, str) != isinstance(right, str):
                raise SecurityError("a text and a number are put together with ~, not +")
            bounded(len(left) + len(right))
    elif sign == "%":
        if left.__class__ not in _NUMBERS:
            raise SecurityError("% is for numbers; for texts use the filter format")
    elif sign == "*":
        if isinstance(left, str) and isinstance(right, int):
            bounded(len(left) * right)
        elif isinstance(right, str) and isinstance(left, int):
            bounded(len(right) * left)
        elif not {left.__class__, right.__class__} <= _NUMBERS:
            raise SecurityError("only numbers and texts are multiplied")
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length()
    elif isinstance(left, int) and isinstance(right, int) and right > 0:
        bits = left.bit_length() * right
    if bits > _BITS:
        raise SecurityError("the number gets too large")
