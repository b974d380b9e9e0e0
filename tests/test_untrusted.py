"""Text from outside can be stored, whatever it held; what was whole stays as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict, sanitized
from wabcast.untrusted import BROKEN, broken, clean, clean_text, load_json

ODD = st.text(st.characters() | st.sampled_from("\x00\ud83d\ude00\udfff"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD, inner, max_size=4),
    max_leaves=20,
)


def storable(value: object) -> bool:
    """Whether UTF-8, and so SQLite, can hold it, and PostgreSQL too."""
    said = json.dumps(value, ensure_ascii=False)
    said.encode()
    return "\\u0000" not in said


@given(ODD)
def test_a_text_is_made_whole_and_a_whole_one_is_left_alone(text: str) -> None:
    cleaned = clean_text(text)
    assert BROKEN.search(cleaned) is None
    assert clean_text(cleaned) == cleaned
    assert (cleaned == text) == (not broken(text))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("STOP\x00", "STOP"),
        ("STOP \ud83d", "STOP \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("Zoë 👋", "Zoë 👋"),
    ],
)
def test_halves_are_joined_a_lone_one_is_marked_and_nul_is_left_out(text: str, wanted: str) -> None:
    assert clean_text(text) == wanted


@given(JSON, st.booleans())
def test_json_is_read_as_it_is_but_for_what_nothing_can_hold(value: object, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    read = load_json(body)
    assert storable(read)
    assert storable(clean(value))
    if escaped:
        assert read == clean(value)


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "9" * 5000, "-" + "9" * 5000])
def test_one_odd_number_costs_no_neighbour(odd: str) -> None:
    assert load_json(f'{{"a": {odd}, "b": [1, "x"]}}'.encode()) == {"a": None, "b": [1, "x"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\xfd", b"{'a': 1}"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(body)


@given(ODD, ODD)
def test_a_verdict_holds_texts_that_can_be_stored(one: str, other: str) -> None:
    verdicts: list[Verdict] = [
        Accepted(one, held=True),
        Deferred(one, other, scope=Scope.ACCOUNT),
        Rejected(one, other, opt_out=True),
        Halted(one, other),
        Lost(one, other),
    ]
    for verdict in verdicts:
        told = sanitized(verdict)
        assert type(told) is type(verdict)
        for name in verdict.__slots__:
            before, after = getattr(verdict, name), getattr(told, name)
            assert after == (clean_text(before) if before.__class__ is str else before)
            assert storable(after) if before.__class__ is str else True
