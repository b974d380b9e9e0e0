"""The language against Python's own idea of it, and the walls around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection

from wabcast import segment
from wabcast.contacts import Contact
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.store import contacts, segments
from wabcast.store.database import connect

AT = "2026-11-05T10:00:00.000Z"
ANN, BOB, CID, DAN = (f"+49151123456{n}" for n in range(70, 74))
PEOPLE = [
    Contact(
        ANN, "Ann", attributes={"City": "Berlin", "Loyalty Points": "250"}, tags=("vip", "new")
    ),
    Contact(BOB, "Bob", company="Acme", attributes={"City": "Köln", "Loyalty Points": "abc"}),
    Contact(CID, "cid", attributes={"Loyalty Points": "30", "a'b\"c": "x"}, tags=("new",)),
    Contact(DAN, "Dan", attributes={"city": "Berlin", "Loyalty Points": "007"}),
]


@pytest.fixture
def people(db: Connection) -> Connection:
    contacts.upsert(db, PEOPLE, at=AT)
    return db


def picked(db: Connection, expression: str) -> list[str]:
    return [person.phone for person in contacts.each(db, where=expression)]


@pytest.mark.parametrize(
    ("expression", "phones"),
    [
        ("city = 'Berlin'", [ANN, DAN]),
        ("CITY = 'Berlin' and tag('vip')", [ANN]),
        ("firstName = 'Bob' or \"first name\" = 'Dan'", [BOB, DAN]),
        ('"Loyalty Points" > 100', [ANN]),
        ("loyalty_points > 100", [ANN]),
        ('"Loyalty Points" = 7', [DAN]),
        ("\"Loyalty Points\" = '007'", [DAN]),
        ('"Loyalty Points" in (7, 30)', [CID, DAN]),
        ('"Loyalty Points" between 7 and 30.0', [CID, DAN]),
        ('not "Loyalty Points" > 100', [CID, DAN]),
        ('"Loyalty Points" is not null and not number("Loyalty Points") is null', [ANN, CID, DAN]),
        ('"Loyalty Points" + 1 = 31', [CID]),
        ("-loyaltypoints < -29", [ANN, CID]),
        ("city is null", [CID]),
        ("city <> 'Berlin'", [BOB]),
        ("coalesce(city, '') <> 'Berlin'", [BOB, CID]),
        ("first_name like 'c%'", [CID]),
        ("first_name glob 'C*'", []),
        ('"a\'b""c" = \'x\'', [CID]),
        ("company = 'Acme' and length(company) = 4", [BOB]),
        ("opted_out_at is null and tag('new')", [ANN, CID]),
        ("case when tag('vip') then 1 when tag('new') then 2 end = 2", [CID]),
        ("created_at < datetime('now')", [ANN, BOB, CID, DAN]),
        ("tag('it''s')", []),
        ("city = '{condition}' or true", [ANN, BOB, CID, DAN]),
    ],
)
def test_a_segment_picks(people: Connection, expression: str, phones: list[str]) -> None:
    assert picked(people, expression) == phones


def test_a_name_that_nobody_has_is_refused_with_what_is_near(people: Connection) -> None:
    with pytest.raises(UsageError, match="no contact has a 'cty'") as caught:
        segments.condition(people, "cty = 'Berlin'")
    assert "city" in caught.value.hint.lower()
    with pytest.raises(UsageError, match="Berlin") as caught:
        segments.condition(people, 'city = "Berlin"')
    assert "single quotes" in caught.value.hint


def test_before_the_first_import_names_are_not_checked(db: Connection) -> None:
    segments.create(db, "early", "anything = 'x'", at=AT)
    assert picked(db, "anything = 'x'") == []


@pytest.mark.parametrize(
    "sql",
    [
        "(select count(*) from accounts)",
        "exists (select 1 from sqlite_master)",
        "load_extension('x')",
        "randomblob(9)",
        "contacts.id in (select id from campaigns)",
        "exists (select 1 from pragma_table_info('accounts'))",
    ],
)
def test_the_second_wall_holds_without_the_first(
    people: Connection, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_written", lambda *_: sql)
    with pytest.raises(UsageError):
        segments.condition(people, "true")
    # And it is gone afterwards.
    assert people.execute("select count(*) from accounts").fetchone()[0] == 0


def test_an_expression_cannot_grow_without_bound(people: Connection) -> None:
    nested = "city"
    for _ in range(20):
        nested = f"abs(coalesce({nested}, 'x'))"
    with pytest.raises(UsageError, match=r"too much|too deep"):
        segments.condition(people, f"{nested} = 1")


def test_segments_are_kept_under_a_name(people: Connection) -> None:
    made = segments.create(people, "berliners", "city = 'Berlin'", at=AT)
    assert segments.create(people, "berliners", "city = 'Berlin'", at=AT) == made
    with pytest.raises(Refused, match="already"):
        segments.create(people, "berliners", "city = 'Bonn'", at=AT)
    with pytest.raises(UsageError):
        segments.create(people, " ", "true", at=AT)
    with pytest.raises(UsageError):
        segments.create(people, "broken", "city =", at=AT)
    assert [one.name for one in segments.every(people)] == ["berliners"]
    segments.remove(people, "berliners")
    with pytest.raises(NotFound):
        segments.get(people, "berliners")


# The same sentence twice: as text for SQLite, and as a function in Python -------------------

Value = str | float | None
Fate = bool | None
A, B, C = "alpha", "Beta Two", "company"


@dataclass(frozen=True)
class Said:
    text: str
    holds: Callable[[Contact], Fate]


def _get(contact: Contact, name: str) -> str | None:
    return (contact.company or None) if name == C else contact.attributes.get(name)


def _number(value: Value) -> float | None:
    if value is None or isinstance(value, float):
        return value
    try:
        return float(value) if value.isascii() else None
    except ValueError:
        return None


_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # both texts or both numbers
    ">=": lambda a, b: a >= b,  # type: ignore[operator]  # both texts or both numbers
}
# What looks like a number to one and not to the other (inf, nan, 1_0) is not in the alphabet.
words = st.text("abX '%9-.é", max_size=4)
numbers = st.integers(-20, 20) | st.sampled_from([0.5, -2.25])
names = st.sampled_from([A, B, C])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    return f'"{name}"' if " " in name else name


@st.composite
def leaves(draw: st.DrawFn) -> Said:
    name = draw(names)
    match draw(st.sampled_from(["text", "number", "two", "null", "tag", "in", "between"])):
        case "text":
            op, word = draw(st.sampled_from(list(_COMPARE))), draw(words)
            return Said(
                f"{_name(name)} {op} {_quoted(word)}",
                lambda c: _null(_COMPARE[op], _get(c, name), word),
            )
        case "number":
            op, number = draw(st.sampled_from(list(_COMPARE))), draw(numbers)
            return Said(
                f"{_name(name)} {op} {number}",
                lambda c: _null(_COMPARE[op], _number(_get(c, name)), float(number)),
            )
        case "two":
            op, other = draw(st.sampled_from(list(_COMPARE))), draw(names)
            return Said(
                f"{_name(name)} {op} {_name(other)}",
                lambda c: _null(_COMPARE[op], _get(c, name), _get(c, other)),
            )
        case "null":
            return Said(f"{_name(name)} is null", lambda c: _get(c, name) is None)
        case "tag":
            word = draw(words)
            return Said(f"tag({_quoted(word)})", lambda c: word in c.tags)
        case "in":
            among = draw(st.lists(words, min_size=1, max_size=3))
            return Said(
                f"{_name(name)} in ({', '.join(map(_quoted, among))})",
                lambda c: _null(lambda a, _: a in among, _get(c, name), ""),
            )
        case _:
            low, high = draw(numbers), draw(numbers)
            return Said(
                f"{_name(name)} between {low} and {high}",
                lambda c: _null(
                    lambda a, _: low <= a <= high,  # type: ignore[operator]  # a number
                    _number(_get(c, name)),
                    "",
                ),
            )


def _null(compare: Callable[[Value, Value], bool], a: Value, b: Value) -> Fate:
    return None if a is None or b is None else compare(a, b)


def _and(a: Fate, b: Fate) -> Fate:
    return False if a is False or b is False else None if a is None or b is None else True


def _not(a: Fate) -> Fate:
    return None if a is None else not a


def grow(parts: st.SearchStrategy[Said]) -> st.SearchStrategy[Said]:
    return st.one_of(
        parts.map(lambda p: Said(f"not ({p.text})", lambda c: _not(p.holds(c)))),
        st.tuples(parts, parts).map(
            lambda p: Said(
                f"({p[0].text}) and ({p[1].text})",
                lambda c: _and(p[0].holds(c), p[1].holds(c)),
            )
        ),
        st.tuples(parts, parts).map(
            lambda p: Said(
                f"({p[0].text} OR {p[1].text})",
                lambda c: _not(_and(_not(p[0].holds(c)), _not(p[1].holds(c)))),
            )
        ),
    )


sentences = st.recursive(leaves(), grow, max_leaves=8)
cells = words | numbers.map(str)
persons = st.builds(
    lambda attributes, company, tags: Contact(
        ANN, company=company, attributes={k: v for k, v in attributes.items() if v}, tags=tags
    ),
    st.dictionaries(st.sampled_from([A, B]), cells),
    cells,
    st.lists(words, max_size=2).map(tuple),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    path: Path = tmp_path_factory.mktemp("segments") / "wabcast.db"
    db = connect(path)
    db.execute("pragma synchronous = off")
    # Somebody who has every attribute, so that each name is one.
    everything = {A: "x", B: "y"}
    contacts.upsert(db, [Contact(BOB, attributes=everything)], at=AT)
    yield db
    db.close()


@given(said=sentences, person=persons)
def test_sql_agrees_with_python(shared: Connection, said: Said, person: Contact) -> None:
    assert segment.parse(said.text).kind is segment.Kind.CONDITION
    shared.execute("delete from contacts where phone = ?", (ANN,))
    contacts.upsert(shared, [person], at=AT)
    assert (ANN in picked(shared, said.text)) == (said.holds(person) is True)
