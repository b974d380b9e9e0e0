"""Segments: saved, and written as SQL that may look at contacts and at nothing else.

Two walls: `wabcast.segment` lets through names, texts and numbers only, and SQLite's authorizer
looks over what came of it. What must not break: an expression enters a statement only as
`condition` returned it, in the same connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from wabcast import segment
from wabcast.contacts import folded
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.segment import COMPARISONS, Apply, Kind, Literal, Name, Node, Tag
from wabcast.store.database import DatabaseError, immediate

if TYPE_CHECKING:
    from wabcast.store.database import Connection

COLUMNS = (
    *("phone", "first_name", "last_name", "name", "email", "company", "language", "timezone"),
    *("opted_out_at", "opt_out_reason", "blocked_at", "created_at", "updated_at"),
)
"""What an expression may name beside attributes; also as firstName or "First Name"."""

MAX_SQL = 100_000
"""Characters of SQL that an expression may grow to."""

LONGEST_PATTERN = 200
"""Characters of a pattern that a contact brings; a longer one matches nothing."""

ATTRIBUTES = "select distinct item.key from contacts, json_each(contacts.attributes) as item"

ANYBODY = "select 1 from contacts where listed = 1 limit 1"

# `{condition}` is replaced by what `_written` made: the one place where SQL is put together.
CHECK = "explain select 1 from contacts where ({condition})"

TAGGED = """exists (
select 1 from contact_tags where contact_tags.contact_id = contacts.id and contact_tags.tag = {tag})
"""

ADD = "insert into segments (name, expression, created_at) values (:name, :expression, :at)"

ALL = "select name, expression, created_at from segments order by name"

ONE = "select name, expression, created_at from segments where name = :name"

REMOVE = "delete from segments where name = :name"

USERS = """
select name from campaigns
 where status in ('draft', 'scheduled') and audience ->> '$.segment' = :name
"""

_OK, _DENY = 0, 1
_TABLES = frozenset({"contacts", "contact_tags"})
_NUMERIC_SIDES = COMPARISONS | {"in", "not in", "between", "not between"}
_FUNCTIONS = frozenset(segment.FUNCTIONS) | {"->>", "like", "glob", "iif", "max"}


@dataclass(frozen=True, slots=True)
class Segment:
    name: str
    expression: str
    created_at: str


def create(db: Connection, name: str, expression: str, *, at: str) -> Segment:
    """Save `expression` under `name`. Raises UsageError for a faulty one, Refused for a taken name.

    Naming the same thing again is no fault.
    """
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise UsageError(f"{name!r} cannot be the name of a segment", hint="as in: berliners")
    condition(db, expression)
    with immediate(db):
        known = db.execute(ONE, {"name": name}).fetchone()
        if known and known["expression"] != expression:
            raise Refused(
                f"there is a segment {name!r} already: {known['expression']}",
                hint=f"wabcast segment remove {name}, or take another name",
            )
        if not known:
            db.execute(ADD, {"name": name, "expression": expression, "at": at})
    return get(db, name)


def get(db: Connection, name: str) -> Segment:
    """Raises NotFound, naming what is spelled alike."""
    row = db.execute(ONE, {"name": name}).fetchone()
    if row is None:
        raise NotFound(
            f"no segment {name!r}",
            hint=_near(name, [known.name for known in every(db)]) or "wabcast segment list",
        )
    return Segment(*row)


def every(db: Connection) -> Iterator[Segment]:
    for row in db.execute(ALL).fetchall():
        yield Segment(*row)


def remove(db: Connection, name: str) -> None:
    """Forget the segment. Refused while a campaign that has not begun means to use it."""
    with immediate(db):
        get(db, name)
        users = [row["name"] for row in db.execute(USERS, {"name": name})]
        if users:
            raise Refused(
                f"segment {name!r} is the audience of {', '.join(users)}",
                hint="delete or edit these campaigns first",
            )
        db.execute(REMOVE, {"name": name})


def condition(db: Connection, expression: str) -> str:
    """The SQL of `expression` over the table `contacts`, looked over by SQLite's authorizer.

    Names are those of columns, then of attributes, in any case and with or without spaces and
    underscores; they must exist, unless there are no contacts at all. A text is compared as a
    number where a number stands on the other side; one that is no number is then unknown.
    Raises UsageError.
    """
    tree = segment.parse(expression)
    sql = _written(tree, _resolved(db, segment.names(tree)))
    db.set_authorizer(_only_contacts)
    try:
        db.execute(CHECK.replace("{condition}", sql)).close()
    except DatabaseError as exc:
        raise UsageError(f"segment expression: {exc}", hint=segment.HINT) from exc
    finally:
        db.set_authorizer(None)
    return sql


def condition_of(db: Connection, name: str) -> str:
    """The SQL of the segment called `name`, as of now."""
    try:
        return condition(db, get(db, name).expression)
    except UsageError as exc:
        raise Refused(f"segment {name!r} cannot be used: {exc.message}", hint=exc.hint) from exc


def attributes(db: Connection) -> list[str]:
    """The names of all attributes that anybody has, sorted. Looks at every contact."""
    return sorted(row[0] for row in db.execute(ATTRIBUTES))


def _only_contacts(
    action: int, first: str | None, second: str | None, _base: str | None, _inner: str | None
) -> int:
    match action:  # the codes: sqlite.org/c3ref/c_alter_table.html
        case 21:  # SQLITE_SELECT
            return _OK
        case 20:  # SQLITE_READ
            return _OK if first in _TABLES else _DENY
        case 31:  # SQLITE_FUNCTION
            return _OK if second in _FUNCTIONS else _DENY
        case _:
            return _DENY


def _resolved(db: Connection, names: Iterable[str]) -> Mapping[str, str]:
    """The SQL of each name. Attributes that differ in spelling only are one."""
    columns = {folded(column): f"contacts.{column}" for column in COLUMNS}
    found = {name: columns[folded(name)] for name in names if folded(name) in columns}
    strangers = sorted(set(names) - found.keys())
    if not strangers:
        return found
    nobody = not db.execute(ANYBODY).fetchone()
    known = attributes(db)
    for name in strangers:
        spellings = [other for other in known if folded(other) == folded(name)]
        spellings.sort(key=lambda other: other != name)
        if nobody:
            spellings = [name]
        if not spellings:
            raise UsageError(
                f"segment expression: no contact has a {name!r}",
                hint=_near(name, [*COLUMNS, *known])
                or f"a text goes in single quotes; attributes: {', '.join(known[:20]) or 'none'}",
            )
        found[name] = _either([_attribute(spelling) for spelling in spellings])
    return found


def _near(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _attribute(name: str) -> str:
    path = "$." + json.dumps(name, ensure_ascii=False)
    return f"cast(contacts.attributes ->> {_quoted(path)} as text)"


def _either(parts: list[str]) -> str:
    return f"coalesce({', '.join(parts)})" if len(parts) > 1 else parts[0]


def _written(node: Node, resolved: Mapping[str, str]) -> str:
    match node:
        case Literal(value, Kind.TEXT):
            return _quoted(value)
        case Literal(value):
            return value
        case Name(name):
            return resolved[name]
        case Tag(tag):
            return TAGGED.replace("{tag}", _quoted(tag))
        case Apply(op, args):
            return _short(_applied(op, args, [_written(arg, resolved) for arg in args]))
        case _:
            assert_never(node)


def _applied(op: str, args: tuple[Node, ...], sql: list[str]) -> str:
    numbers = [_number(text, arg) for text, arg in zip(sql, args, strict=True)]
    if op in _NUMERIC_SIDES and any(arg.kind is Kind.NUMBER for arg in args):
        sql = numbers
    match op:
        case "and" | "or" | "||":
            return "(" + f" {op} ".join(sql) + ")"
        case "+" | "-" | "*" | "/" | "%":
            return f"({numbers[0]} {op} {numbers[1]})"
        case "not":
            return f"(not {sql[0]})"
        case "negative":
            return f"(- {numbers[0]})"
        case "number":
            return numbers[0]
        case "abs":  # SQLite's own fails for everybody where one has the least integer
            return f"max({numbers[0]}, - {numbers[0]})"
        case "round":
            return f"{op}({', '.join(numbers)})"
        case "like" | "not like" | "glob" | "not glob" if not isinstance(args[1], Literal):
            # So it does for a pattern of 50,000 characters, and it is slow with many a %.
            pattern = f"iif(length({sql[1]}) <= {LONGEST_PATTERN}, {sql[1]}, null)"
            return f"({sql[0]} {op} {pattern})"
        case "is null" | "is not null":
            return f"({sql[0]} {op})"
        case "in" | "not in":
            return f"({sql[0]} {op} ({', '.join(sql[1:])}))"
        case "between" | "not between":
            return f"({sql[0]} {op} {sql[1]} and {sql[2]})"
        case "case":
            pairs = zip(sql[:-1:2], sql[1:-1:2], strict=True)
            whens = " ".join(f"when {when} then {then}" for when, then in pairs)
            return f"(case {whens} else {sql[-1]} end)"
        case _ if op in segment.FUNCTIONS:
            return f"{op}({', '.join(sql)})"
        case _:
            return f"({sql[0]} {op} {sql[1]})"


def _number(sql: str, node: Node) -> str:
    """The text as a number, null if it is none.

    The cast gives the right side NUMERIC affinity, so SQLite compares as numbers what looks
    like one from end to end: '12abc' is cast to 12, but is not equal to it.
    """
    if node.kind is not Kind.TEXT:
        return sql
    return _short(f"iif({sql} = cast({sql} as numeric), cast({sql} as numeric), null)")


def _short(sql: str) -> str:
    if len(sql) > MAX_SQL:
        raise UsageError("segment expression: it is too much to reckon", hint=segment.HINT)
    return sql
