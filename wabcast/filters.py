"""What a hole can do with a value: the filters and operators, each with its bound.

A message is short, so anything long is a mistake or an attack. Invariant: every filter here is
wrapped by `_of_text` or `_of_lists`, which charge the budget for what goes in and what comes out,
or costs the same whatever it is given; whatever can make a long text out of short ones asks
`bounded` before it makes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA
from jinja2.tests import TESTS as JINJA_TESTS

from wabcast.render_budget import ELEMENT, bounded, charge

_BITS = 256
_NUMBERS = frozenset({int, float, bool})
PLAIN = _NUMBERS | {str}


def say(value: Any) -> Any:
    """What a hole prints: text, a number, or nothing; never an object. Jinja's `finalize`."""
    if value.__class__ in PLAIN or isinstance(value, Undefined):
        return value
    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict)):
        raise SecurityError("a list cannot be said; join it: {{ ... | join(', ') }}")
    raise SecurityError("a function cannot be said; use a filter: {{ name | title }}")


def say_inside(value: Any) -> Any:
    """As `say`, for what is kept in a variable and may never be said."""
    said = say(value)
    if said.__class__ is str:
        charge(len(said))
    return said


def join(items: Iterable[Any], glue: str = "") -> str:
    """The filter `join`, and what `~` is compiled to."""
    parts: list[str] = []
    length = 0
    for item in items:
        part = str(say(item))
        length += len(part) + len(glue)
        bounded(length)
        charge(ELEMENT + len(part) + len(glue))
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


_TURNS = 16  # turns of a loop that are charged at once
_LEEWAY = 5  # Jinja's: what is longer by so little is not cut


def _truncate(
    text: Any,
    length: int = 255,
    killwords: Any = False,  # noqa: FBT002  # Jinja's own signature
    end: str = "...",
    leeway: int | None = None,
) -> str:
    """Jinja's, with a refusal in place of its assertions."""
    source, end = str(text), str(end)
    more = _LEEWAY if leeway is None else leeway
    if length < len(end):
        raise SecurityError(
            f"truncate({length}) leaves no room for the end, which has {len(end)} characters"
        )
    if more < 0:
        raise SecurityError(f"truncate takes no leeway of {more}")
    if len(source) <= length + more:
        return source
    head = source[: length - len(end)]
    return (head if killwords else head.rsplit(" ", 1)[0]) + end


def _sum(values: Iterable[Any], start: Any = 0) -> Any:
    """Of numbers alone: lists put together one by one would be walked over and over."""
    total = _number(start)
    for value in values:
        total += _number(value)
    return total


def _number(value: Any) -> Any:
    if isinstance(value, Undefined):
        return int(value)  # notes the name that has no value
    if value.__class__ not in _NUMBERS:
        raise SecurityError("sum takes numbers; write map('float') before it")
    return value


class _Turns(list[Any]):
    """What a `for` walks: its turns are charged as they come, each with the text `inside` it."""

    inside = 0

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _TURNS):
            some = self[start : start + _TURNS]
            charge(len(some) * (ELEMENT + self.inside))
            yield from some


def loop(value: Any, inside: int = 0) -> list[Any]:
    """What every `for` goes through."""
    if not hasattr(value, "__len__"):
        value = _walked(value, 1)
    if len(value) <= _TURNS:
        charge(len(value) * (ELEMENT + inside))
        return list(value)
    charge(len(value))
    turns = _Turns(value)
    turns.inside = inside
    return turns


def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """What `value[start:stop:step]` is compiled to."""
    piece = value[slice(start, stop, step)]
    if isinstance(piece, (str, list, tuple)):
        charge(ELEMENT * len(piece) if piece.__class__ is not str else len(piece))
    return piece


def holding(value: Any) -> Any:
    """What a list, tuple or mapping in a template is compiled to: charged with all that is in it.

    Comparing, sorting and saying walk what is nested, so what is nested in itself twice and twice
    again is as large as it looks.
    """
    charge(ELEMENT * (1 + len(value)))
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (list, tuple, dict)):
            holding(item)
    return value


def words(text: str) -> frozenset[str]:
    """The words of a list written as a sentence."""
    return frozenset(text.split())


def _walked(value: Any, each: int) -> list[Any]:
    if hasattr(value, "__len__"):
        charge(each * len(value))  # before a list of so many is made
        return list(value)
    items = []
    for item in value:
        charge(each + (len(item) if item.__class__ is str else 0))
        items.append(item)
    return items


def _of_text(told: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test of texts and numbers. Of a list it would make a text without bound."""

    @wraps(told)
    def checked(*values: Any, **named: Any) -> Any:
        cost = ELEMENT
        for value in values if not named else (*values, *named.values()):
            if value.__class__ is str:
                cost += len(value)
            elif value.__class__ not in _NUMBERS:
                say(value)
        charge(cost)
        made = told(*values, **named)
        if made.__class__ is str:
            length = len(made)
            bounded(length)
            charge(length)
        return made

    return checked


def _of_lists(told: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that walks a list, or a text by its characters. What it makes is made at once.

    Each element is charged with every character of the arguments: a filter is a word among them,
    and what it searches may be another.
    """
    first = 1 if hasattr(told, "jinja_pass_arg") else 0  # Jinja's own comes before the value

    @wraps(told)
    def checked(*values: Any, **named: Any) -> Any:
        walked = values[first]
        count = len(walked) if hasattr(walked, "__len__") else 0
        inside = sum(
            len(value)
            for value in (*values[first + 1 :], *named.values())
            if value.__class__ is str
        )
        charge((1 + count) * (ELEMENT + inside))
        made = told(*values, **named)
        if isinstance(made, Iterator):
            return _walked(made, ELEMENT)
        if isinstance(made, list):
            charge(ELEMENT * len(made))
        elif made.__class__ is str:
            charge(len(made))
        return made

    return checked


FILTERS: dict[str, Callable[..., Any]] = {
    **{
        name: _of_text(JINJA[name])
        for name in words("capitalize float int lower string title trim upper wordcount")
    },
    **{
        name: _of_lists(JINJA[name])
        for name in words("list map max min reject reverse select sort unique")
    },
    **{name: JINJA[name] for name in words("abs count d default first last length")},
    **{
        own.__name__[1:]: _of_text(own)
        for own in (_format, _replace, _round, _truncate, _urlencode)
    },
    "sum": _of_lists(_sum),
    "join": join,
}


def _in(value: Any, where: Any) -> bool:
    if hasattr(where, "__len__"):
        charge(len(where))
    return value in where


TESTS = {**JINJA_TESTS, "in": _in}
"""Jinja's own: all but this one look at one value, once."""


def weigh(sign: str, left: Any, right: Any) -> None:
    """Refuses an operation before it has made something too large."""
    bits = 0
    if sign == "+":
        if not {left.__class__, right.__class__} <= _NUMBERS:
            if isinstance(left, str) != isinstance(right, str):
                raise SecurityError("a text and a number are put together with ~, not +")
            _made(left, len(left) + len(right))
    elif sign == "%":
        if left.__class__ not in _NUMBERS:
            raise SecurityError("% is for numbers; for texts use the filter format")
    elif sign == "*":
        if isinstance(left, str) and isinstance(right, int):
            _made(left, len(left) * right)
        elif isinstance(right, str) and isinstance(left, int):
            _made(right, len(right) * left)
        elif not {left.__class__, right.__class__} <= _NUMBERS:
            raise SecurityError("only numbers and texts are multiplied")
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length()
    elif isinstance(left, int) and isinstance(right, int) and right > 0:
        bits = left.bit_length() * right
    if bits > _BITS:
        raise SecurityError("the number gets too large")


def _made(of: Any, length: int) -> None:
    bounded(length)
    charge(length if of.__class__ is str else ELEMENT * length)
