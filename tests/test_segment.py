import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import segment
from wabcast.errors import UsageError


@pytest.mark.parametrize(
    "expression",
    [
        "city = 'Berlin' and tag('vip')",
        "city='Berlin'and tag('vip')or not tag('x')",
        '"Loyalty Points" > 100',
        "city in ('Berlin', 'Bonn') and name not like 'A%'",
        "points between 1 and 5 and not (city is null or city is not null)",
        "case when tag('a') then 1 else 0 end = 1",
        "lower(trim(city)) = 'köln' || ''",
        "-points < -(3 + 4) * 2 % 5",
        "true",
        "straße = 'x' -\n 1",
    ],
)
def test_a_condition_is_understood(expression: str) -> None:
    assert segment.parse(expression).kind is segment.Kind.CONDITION


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("city", "where a condition belongs"),
        ("1", "where a condition belongs"),
        ("'a' and 'b'", "where a condition belongs"),
        ("city = 'Berlin", "not closed"),
        ('"city = 1', "not closed"),
        ("city = null", "nothing equals null"),
        ("city = true", "where a value belongs"),
        ("city =", "at the end"),
        ("city = 'x' city = 'y'", "expected an operator"),
        ("city = 'x'; drop table contacts", "';' does not belong"),
        ("city = 'x' -- and more", "'--' does not belong"),
        ("city = 'x' /* hidden */", "does not belong"),
        ("(select 1) = 1", "'select' does not belong"),
        ("exists (select 1)", "'exists' does not belong"),
        ("city = :name", "does not belong"),
        ("city = ?", "does not belong"),
        ("city = @x", "does not belong"),
        ("[city] = 'x'", "does not belong"),
        ("load_extension('x') = 1", "no function load_extension"),
        ("randomblob(1e9) = 1", "no function randomblob"),
        ("replace(city, 'a', 'aaaa') = 'x'", "no function replace"),
        ("main.contacts = 1", "does not belong"),
        ("tag(city)", "tag() wants one text"),
        ("tag('a', 'b')", "expected ')'"),
        ("length() = 1", "expected a value"),
        ("substr(city) = 'x'", "2 to 3 arguments"),
        ("city not 'x'", "after 'not'"),
        ("case else 1 end = 1", "expected 'when'"),
        ("city = 'a\x00b'", "NUL"),
        ("(" * 100 + "true" + ")" * 100, "nested too deep"),
        ("tag('x') or " * 400 + "true", "limit"),
        ("1a = 1", "does not belong"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_place(expression: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        segment.parse(expression)
    assert says in caught.value.message
    assert caught.value.hint


@given(st.text(max_size=60) | st.text("()'\"=<>-+*/%|, .abntoris0123\\;:?", max_size=40))
def test_no_text_brings_the_parser_down(expression: str) -> None:
    try:
        tree = segment.parse(expression)
    except UsageError:
        return
    assert tree.kind is segment.Kind.CONDITION


def test_names_are_all_that_is_spoken_of() -> None:
    tree = segment.parse("a = 'x' and (\"b c\" > 1 or lower(a) like d) and tag('e')")
    assert segment.names(tree) == {"a", "b c", "d"}
