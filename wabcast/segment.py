"""The language of a segment: a condition in SQL's words over one contact, as a tree.

`store.segments` writes the tree as SQL. What must not break: nothing of what a person typed
reaches SQLite but names, texts and numbers that this parser has taken apart, and what it cannot
take apart is refused, with the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from wabcast.errors import UsageError

MAX_LENGTH = 4000
"""Characters of an expression. SQLite's own limit is a tree of depth 1000."""
MAX_DEPTH = 30
"""Brackets within brackets."""
HINT = "as in: city = 'Berlin' and tag('vip') and \"Loyalty Points\" > 100"


class Kind(StrEnum):
    """What a part of an expression is. Columns and attributes are texts, all of them."""

    CONDITION = "a condition"
    NUMBER = "a number"
    TEXT = "a text"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Literal:
    """A text as itself, a number as it was spelled, `true`, `false` or `null` as that word."""

    value: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Name:
    """A column of the contact or one of its attributes; the store knows which."""

    name: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Tag:
    tag: str
    kind: Kind = Kind.CONDITION


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator or a function with its operands. `op` is one of `OPERATORS` or `FUNCTIONS`."""

    op: str
    args: tuple[Node, ...]
    kind: Kind


Node: TypeAlias = Literal | Name | Tag | Apply

COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})
OPERATORS = COMPARISONS | {
    *("and", "or", "not", "+", "-", "*", "/", "%", "||", "negative", "case"),
    *("like", "not like", "glob", "not glob", "in", "not in", "between", "not between"),
    *("is null", "is not null"),
}
# Name: fewest and most arguments, what comes out; None: as what goes in. Nothing here grows a
# text or runs longer than its arguments, so that an expression costs what it looks like.
FUNCTIONS: dict[str, tuple[int, int, Kind | None]] = {
    "lower": (1, 1, Kind.TEXT),
    "upper": (1, 1, Kind.TEXT),
    "trim": (1, 2, Kind.TEXT),
    "ltrim": (1, 2, Kind.TEXT),
    "rtrim": (1, 2, Kind.TEXT),
    "substr": (2, 3, Kind.TEXT),
    "length": (1, 1, Kind.NUMBER),
    "instr": (2, 2, Kind.NUMBER),
    "abs": (1, 1, Kind.NUMBER),
    "round": (1, 2, Kind.NUMBER),
    "number": (1, 1, Kind.NUMBER),
    "coalesce": (2, 20, None),
    "ifnull": (2, 2, None),
    "nullif": (2, 2, None),
    "date": (1, 9, Kind.TEXT),
    "time": (1, 9, Kind.TEXT),
    "datetime": (1, 9, Kind.TEXT),
    "strftime": (2, 9, Kind.TEXT),
    "julianday": (1, 9, Kind.NUMBER),
}
_ELSEWHERE = frozenset(
    {
        *("select", "with", "exists", "union", "from", "where", "insert", "update", "delete"),
        *("drop", "attach", "pragma", "values", "over", "collate", "cast", "regexp", "match"),
    }
)
_WORDS = frozenset(
    {
        *("and", "or", "not", "in", "like", "glob", "is", "null", "between", "true", "false"),
        *("case", "when", "then", "else", "end"),
    }
)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    | (?P<word>[^\W\d]\w*)
    | (?P<sign><=|>=|<>|!=|==|\|\||(?!--|/\*)[=<>+\-*/%(),])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)


def parse(expression: str) -> Node:
    """The condition that `expression` says. Raises UsageError with the place of the fault."""
    if len(expression) > MAX_LENGTH:
        raise UsageError(
            f"the expression is {len(expression):,} characters long; {MAX_LENGTH:,} is the limit",
            hint="give those people a tag, and choose by the tag",
        )
    return _Parser(expression).whole()


def names(node: Node) -> set[str]:
    """The columns and attributes that `node` speaks of, as they were written."""
    match node:
        case Name(name):
            return {name}
        case Apply(_, args):
            return set().union(*map(names, args))
        case _:
            return set()


class _Parser:
    """Recursive descent, one method a level of SQLite's precedence, loosest first."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.depth = 0
        self.at = self.next_at = 0
        self.sort = self.token = ""
        self.advance()

    def advance(self) -> None:
        found = _TOKEN.match(self.expression, self.next_at)
        if not found:
            rest = self.expression[self.next_at :].lstrip()
            self.at = len(self.expression) - len(rest)
            if rest[0] in "'\"":
                raise self.fault("a quote is opened and not closed")
            raise self.fault(f"{rest[:2].split()[0]!r} does not belong in a segment")
        self.sort = str(found.lastgroup)
        self.token = found[self.sort]
        self.at, self.next_at = found.start(self.sort), found.end()
        if "\x00" in self.token:
            raise self.fault("a text cannot hold a NUL character")
        if self.sort == "word" and self.token.lower() in _WORDS:
            self.sort, self.token = "key", self.token.lower()
        elif self.sort == "word" and self.token.lower() in _ELSEWHERE:
            raise self.fault(f"{self.token!r} does not belong in a segment: it is one condition")

    def fault(self, what: str, hint: str = HINT) -> UsageError:
        shown = self.expression[self.at : self.at + 20] or "the end"
        place = (
            f"at character {self.at + 1}, near {shown!r}" if shown != "the end" else "at the end"
        )
        return UsageError(f"segment expression: {what} ({place})", hint=hint)

    def take(self, *tokens: str) -> str:
        """The token, if it is one of these words or signs; then it is behind us."""
        if self.sort in ("key", "sign") and self.token in tokens:
            token = self.token
            self.advance()
            return token
        return ""

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise self.fault(f"expected {token!r}")

    def whole(self) -> Node:
        if self.sort == "end":
            raise self.fault("it is empty")
        node = self.condition(self.either)
        if self.sort != "end":
            raise self.fault("expected an operator, 'and' or 'or'")
        return node

    def condition(self, part: Callable[[], Node]) -> Node:
        return self.must_be_condition(part())

    def must_be_condition(self, node: Node) -> Node:
        if node.kind is not Kind.CONDITION:
            raise self.fault(
                f"{node.kind} stands where a condition belongs",
                hint="compare it with something: vip = 'yes', points > 0, city is not null",
            )
        return node

    def value(self, node: Node) -> Node:
        if node.kind is Kind.CONDITION:
            raise self.fault("a condition stands where a value belongs", hint="vip = 'true'")
        return node

    def either(self) -> Node:
        return self.joined("or", self.both)

    def both(self) -> Node:
        return self.joined("and", self.negation)

    def joined(self, word: str, part: Callable[[], Node]) -> Node:
        node = part()
        parts = [node]
        while self.take(word):
            parts = [self.must_be_condition(parts[0]), *parts[1:], self.condition(part)]
        return Apply(word, tuple(parts), Kind.CONDITION) if len(parts) > 1 else node

    def negation(self) -> Node:
        with_not = 0
        while self.take("not"):
            with_not += 1
        node = self.equality()
        if with_not:
            self.must_be_condition(node)
        return Apply("not", (node,), Kind.CONDITION) if with_not % 2 else node

    def equality(self) -> Node:
        node = self.relation()
        while True:
            if sign := self.take("=", "==", "!=", "<>"):
                sign = {"==": "=", "!=": "<>"}.get(sign, sign)
                node = self.comparison(sign, node, self.relation())
            elif self.take("is"):
                op = "is not null" if self.take("not") else "is null"
                self.expect("null")
                node = Apply(op, (self.value(node),), Kind.CONDITION)
            else:
                negated = self.take("not")
                word = self.take("like", "glob", "in", "between")
                if not word:
                    if negated:
                        raise self.fault("expected 'in', 'like', 'glob' or 'between' after 'not'")
                    return node
                args = self.after(word)
                op = f"not {word}" if negated else word
                args = tuple(self.comparable(arg) for arg in (node, *args))
                node = Apply(op, args, Kind.CONDITION)

    def after(self, word: str) -> tuple[Node, ...]:
        match word:
            case "in":
                self.expect("(")
                return self.arguments()
            case "between":
                low = self.relation()
                self.expect("and")
                return low, self.relation()
            case _:
                return (self.relation(),)

    def relation(self) -> Node:
        node = self.sum()
        while sign := self.take("<", "<=", ">", ">="):
            node = self.comparison(sign, node, self.sum())
        return node

    def comparison(self, op: str, left: Node, right: Node) -> Node:
        return Apply(op, (self.comparable(left), self.comparable(right)), Kind.CONDITION)

    def comparable(self, node: Node) -> Node:
        if node.kind is Kind.NULL:
            raise self.fault("nothing equals null", hint="city is null, city is not null")
        return self.value(node)

    def sum(self) -> Node:
        return self.reckoned(("+", "-"), Kind.NUMBER, self.product)

    def product(self) -> Node:
        return self.reckoned(("*", "/", "%"), Kind.NUMBER, self.glued)

    def glued(self) -> Node:
        return self.reckoned(("||",), Kind.TEXT, self.signed)

    def reckoned(self, signs: tuple[str, ...], kind: Kind, part: Callable[[], Node]) -> Node:
        node = part()
        while sign := self.take(*signs):
            node = Apply(sign, (self.value(node), self.value(part())), kind)
        return node

    def signed(self) -> Node:
        minus, some = False, False
        while sign := self.take("-", "+"):
            minus, some = minus ^ (sign == "-"), True
        node = self.atom()
        if not some:
            return node
        self.value(node)
        return Apply("negative" if minus else "number", (node,), Kind.NUMBER)

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fault("it is nested too deep")
        node = self.deeper()
        self.depth -= 1
        return node

    def deeper(self) -> Node:
        sort, token = self.sort, self.token
        if self.take("("):
            node = self.either()
            self.expect(")")
            return node
        if self.take("case"):
            return self.cases()
        if sort not in ("text", "number", "quoted", "word") and token not in _CONSTANTS:
            raise self.fault("expected a value")
        self.advance()
        match sort:
            case "text":
                return Literal(token[1:-1].replace("''", "'"), Kind.TEXT)
            case "number":
                return Literal(token, Kind.NUMBER)
            case "quoted":
                return Name(token[1:-1].replace('""', '"'))
            case "word":
                return self.call(token.lower()) if self.take("(") else Name(token)
            case _:
                return Literal(token, _CONSTANTS[token])

    def call(self, name: str) -> Node:
        if name == "tag":
            if self.sort != "text":
                raise self.fault("tag() wants one text", hint="tag('vip')")
            tag = self.token[1:-1].replace("''", "'")
            self.advance()
            self.expect(")")
            return Tag(tag)
        if name not in FUNCTIONS:
            known = ", ".join(["tag", *FUNCTIONS])
            raise self.fault(f"there is no function {name}()", hint=f"there are {known}")
        args = tuple(self.value(arg) for arg in self.arguments())
        fewest, most, kind = FUNCTIONS[name]
        if not fewest <= len(args) <= most:
            raise self.fault(f"{name}() wants {fewest} to {most} arguments")
        return Apply(name, args, kind or _common_kind(args))

    def arguments(self) -> tuple[Node, ...]:
        args = [self.either()]
        while self.take(","):
            args.append(self.either())
        self.expect(")")
        return tuple(args)

    def cases(self) -> Node:
        """`case when C then V ... else V end`, as conditions and values in turn, the else last."""
        args: list[Node] = []
        while self.take("when"):
            args.append(self.condition(self.either))
            self.expect("then")
            args.append(self.value(self.either()))
        if not args:
            raise self.fault("expected 'when' after 'case'")
        args.append(self.value(self.either()) if self.take("else") else Literal("null", Kind.NULL))
        self.expect("end")
        return Apply("case", tuple(args), _common_kind([*args[1::2], args[-1]]))


_CONSTANTS = {"true": Kind.CONDITION, "false": Kind.CONDITION, "null": Kind.NULL}


def _common_kind(args: Iterable[Node]) -> Kind:
    kinds = {arg.kind for arg in args} - {Kind.NULL}
    return Kind.NUMBER if kinds == {Kind.NUMBER} else Kind.TEXT
