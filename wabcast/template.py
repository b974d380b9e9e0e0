"""A message object with holes in its strings, and what one contact makes of it.

A body is compiled once a campaign and rendered once a contact. Only the strings of the body are
ever compiled: what a contact is called is looked up and said, never read as a template. Pure:
no I/O, no clock; Jinja2 is loaded by the first `compile` (it is a twentieth of a second).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wabcast import message
from wabcast.errors import BadContent
from wabcast.untrusted import BROKEN, broken

if TYPE_CHECKING:
    from wabcast.holes import Language

# No string of a template may hold it, and a value that does is rendered without it.
_SEPARATOR = "\x00"
_DEEPEST = 40
# What stands in for a hole where not any text would do.
_PLAUSIBLE = {"link": "https://x.x", "url": "https://x.x", "latitude": "0", "longitude": "0"}


class Missing(StrEnum):
    """What to do about a contact who lacks a name the template says.

    `refuse` the whole start and `skip` the one contact are decided by whoever catches
    `MissingNames`; `blank` says nothing in that place and never raises it.
    """

    REFUSE = "refuse"
    SKIP = "skip"
    BLANK = "blank"


class MissingNames(BadContent):
    """A contact lacks these names; all of them, in the order they are said."""

    def __init__(self, names: tuple[str, ...]) -> None:
        listed = ", ".join(names)
        super().__init__(
            f"no value for {listed}",
            hint=f'give a value in place of it, {{{{ {names[0]} | default("...") }}}}, '
            f"or for everybody, --var {names[0]}=...; or --missing skip or blank",
        )
        self.names = names


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where the string number `index` goes."""

    index: int


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled body. `names` are those it asks a contact for, constants left out."""

    names: frozenset[str]
    _skeleton: Mapping[str, Any]
    _places: tuple[str, ...]
    _language: Language | None
    _root: Callable[[Any], Iterator[str]] | None
    _constants: Mapping[str, Any]
    _missing: Missing

    def render(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The body for one contact, a new object.

        `variables` are plain: text and numbers by name; anything else, and a text that is
        empty, counts as missing. A constant wins over the contact's own value. Raises
        `MissingNames` (unless `blank`), and `BadContent` for what cannot be said.
        """
        if self._root is None:
            return _fill_all(self._skeleton, [])
        said = self._say(variables, self._constants)
        parts = said.split(_SEPARATOR)
        if len(parts) != len(self._places):
            parts = self._say(_clean(variables), _clean(self._constants)).split(_SEPARATOR)
            if len(parts) != len(self._places):
                raise BadContent("a hole makes the character \\x00, which no message can hold")
        return _fill_all(self._skeleton, parts)

    def _say(self, variables: Mapping[str, Any], constants: Mapping[str, Any]) -> str:
        language, root = self._language, self._root
        assert language is not None  # noqa: S101  # render() has looked
        assert root is not None  # noqa: S101  # as above
        pieces, missing, fault = language.say(root, variables, constants)
        if fault is not None:
            where = self._places[min(pieces.count(_SEPARATOR), len(self._places) - 1)]
            raise BadContent(f"{where}: {str(fault) or type(fault).__name__}") from fault
        if missing and self._missing is not Missing.BLANK:
            raise MissingNames(tuple(missing))
        return "".join(pieces)


def compile(  # noqa: A001  # template.compile(body) is what it is called where it is used
    body: Mapping[str, Any],
    *,
    trusted: bool,
    constants: Mapping[str, Any] | None = None,
    missing: Missing = Missing.REFUSE,
) -> Template:
    """Compiles every string of `body` that has a hole, at any depth; keys are never read.

    `trusted` is the command line, which may loop; what comes over REST may not (`for`, `macro`,
    `set`, calls) and is at most 16,384 characters. `constants` (`--var`) are the same for all
    recipients and win over a contact's own value: who says it for all means it for all.
    Raises `BadContent` naming the string, the line and what is wrong.
    """
    constants = dict(constants or {})
    for name, value in constants.items():
        if isinstance(value, str) and (fault := broken(value)):
            raise BadContent(f"the value of {name} holds {fault}")
    places: list[str] = []
    sources: list[str] = []
    skeleton = _dig(body, "", places, sources)
    if not sources:
        return Template(frozenset(), skeleton, (), None, None, constants, missing)
    language, root, asked = _linked(tuple(places), tuple(sources), trusted)
    names = asked - constants.keys()
    return Template(names, skeleton, tuple(places), language, root, constants, missing)


@lru_cache(maxsize=16)
def _linked(
    places: tuple[str, ...],
    sources: tuple[str, ...],
    trusted: bool,  # noqa: FBT001  # a part of the key
) -> tuple[Language, Callable[[Any], Iterator[str]], frozenset[str]]:
    """Compiling takes up to a fifth of a second, and one request or start does it several times:
    the same again is not worked out again, above all not within a transaction."""
    from wabcast import holes

    language, trees = _parse(places, sources, trusted=trusted)
    root = holes.link(language, trees, _SEPARATOR, ", ".join(places))
    return language, root, holes.undeclared(trees)


def names(body: Mapping[str, Any]) -> frozenset[str]:
    """Every name the holes of `body` ask for, those with a default too. Raises `BadContent`."""
    places: list[str] = []
    sources: list[str] = []
    _dig(body, "", places, sources)
    if not sources:
        return frozenset()
    from wabcast import holes

    return holes.undeclared(_parse(places, sources, trusted=True)[1])


def has_holes(body: Mapping[str, Any]) -> bool:
    """Whether anything of `body` has to be compiled. Raises `BadContent` for one too deep."""
    sources: list[str] = []
    _dig(body, "", [], sources)
    return bool(sources)


def problems(body: Mapping[str, Any]) -> list[str]:
    """What is wrong with `body` whatever its holes say: a kind, a place, a count, a length.

    Raises `BadContent` for one that is nested too deep to be looked at.
    """
    _dig(body, "", [], [])
    count = 0

    def put(node: Any, key: object) -> Any:
        nonlocal count
        match node:
            case str() if _is_open(node):
                count += 1  # the ids of buttons must differ
                return _PLAUSIBLE.get(str(key), f"x{count}")
            case Mapping():
                return {inner: put(value, inner) for inner, value in node.items()}
            case list():
                return [put(value, key) for value in node]
            case _:
                return node

    filled: dict[str, Any] = put(body, "")
    return message.problems(filled)


def _is_open(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


def _parse(
    places: Sequence[str], sources: Sequence[str], *, trusted: bool
) -> tuple[Language, list[Any]]:
    from wabcast import holes

    most = holes.LONGEST_SOURCE[trusted]
    if sum(map(len, sources)) > most:
        raise BadContent(f"the template is longer than {most:,} characters")
    language = holes.Language(trusted=trusted)
    trees = [
        holes.parse(language, source, place) for place, source in zip(places, sources, strict=True)
    ]
    return language, trees


def _dig(node: Any, place: str, places: list[str], sources: list[str], depth: int = 0) -> Any:
    """A copy of `node` with a `_Slot` in place of each string that has a hole."""
    if depth > _DEEPEST:
        raise BadContent(f"{place[:60]}...: nested deeper than {_DEEPEST}")
    match node:
        case str():
            if BROKEN.search(node):
                raise BadContent(f"{place}: holds {broken(node)}")
            if not _is_open(node):
                return node
            places.append(place)
            sources.append(node)
            return _Slot(len(sources) - 1)
        case Mapping():
            if fault := broken("".join(key for key in node if isinstance(key, str))):
                raise BadContent(
                    f"{place}: a key holds {fault}" if place else f"a key holds {fault}"
                )
            return {
                key: _dig(
                    value, f"{place}.{key}" if place else str(key), places, sources, depth + 1
                )
                for key, value in node.items()
            }
        case list() | tuple():
            return [
                _dig(value, f"{place}.{index}", places, sources, depth + 1)
                for index, value in enumerate(node)
            ]
        case _:
            return node


def _fill_all(skeleton: Mapping[str, Any], parts: list[str]) -> dict[str, Any]:
    return {key: _fill(value, parts) for key, value in skeleton.items()}


def _fill(node: Any, parts: list[str]) -> Any:
    kind = node.__class__
    if kind is dict:
        return {
            key: value if value.__class__ is str else _fill(value, parts)
            for key, value in node.items()
        }
    if kind is _Slot:
        return parts[node.index]
    if kind is list:
        return [_fill(value, parts) for value in node]
    return node


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.replace(_SEPARATOR, "") if isinstance(value, str) else value
        for name, value in values.items()
    }
