"""Refs and people, as webhooks name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.receipts import Person, Ref, person, read_ref


@given(st.uuids(), st.integers(0, 10**15), st.integers(0, 10**6))
def test_a_ref_comes_back_as_it_went(campaign: object, message: int, attempt: int) -> None:
    ref = Ref(str(campaign), message, attempt)
    assert read_ref(str(ref)) == ref
    assert len(str(ref)) <= 512


@pytest.mark.parametrize(
    "text",
    [None, 7, "", "order-17", "wabcast:a:b:c", "wabcast:a:1:1 ", "wabcast:a:١:1", "x" * 600],
)
def test_the_words_of_another_program_are_not_ours(text: object) -> None:
    assert read_ref(text) is None


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("16505551234",), Person("+16505551234")),
        (("+16505551234", None), Person("+16505551234")),
        (("US.13491208655302741918",), Person(None, "US.13491208655302741918")),
        (("US.ENT.1", "US.2", "16505551234"), Person("+16505551234", "US.2")),
        (("US.ENT.1",), Person(None, "US.ENT.1")),
        ((None, 3, "", "120363@g.us", "x"), Person()),
    ],
)
def test_each_name_is_told_by_its_form(names: tuple[object, ...], wanted: Person) -> None:
    assert person(*names) == wanted
    assert bool(wanted) is (wanted != Person())
