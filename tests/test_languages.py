"""In which language an approved template goes to whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import languages


def known(*codes: str) -> tuple[languages.Option, ...]:
    """Options by code; one with `!` cannot be sent."""
    made: list[dict[str, Any]] = [
        {
            "name": "offer",
            "language": code.rstrip("!"),
            "status": "PAUSED" if code.endswith("!") else "APPROVED",
            "category": "MARKETING",
        }
        for code in codes
    ]
    return languages.options(made)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("pt-br", "pt_BR"),
        ("pt", "pt_PT"),
        ("en_US", "en"),
        ("es", "es_AR"),
        ("de,en_US", "en"),
        (" , en", "en"),
        ("fr", None),
        ("", None),
        ("fr, de", "de"),
        ("de, es", "es_AR"),
    ],
)
def test_a_person_gets_the_first_of_the_list_that_can_be_sent(said: str, code: str | None) -> None:
    found = languages.pick(known("en", "pt_PT", "pt_BR", "es_AR", "de!"), said)
    assert (found and found.language) == code


@pytest.mark.parametrize(
    ("codes", "said", "code"),
    [
        (("en_US",), None, "en_US"),
        (("en_US", "de"), None, None),
        (("en_US", "de!"), None, "en_US"),
        (("en_US!",), None, "en_US"),
        (("en_US",), "en", "en_US"),
        (("en",), "en_US", "en"),
        (("pt_PT",), "pt_BR", None),
        (("pt_PT", "en"), "pt_BR, en", "en"),
        (("en",), "fr", None),
    ],
)
def test_a_language_typed_out_means_itself(
    codes: tuple[str, ...], said: str | None, code: str | None
) -> None:
    found = languages.settle(known(*codes), said)
    assert (found and found.language) == code


def test_faults_and_the_sentence() -> None:
    assert languages.listed(known("en", "de!")) == "en, de (PAUSED)"
    definition = {"name": "x", "language": "en", "status": "APPROVED", "category": "UTILITY"}
    (option,) = languages.options([definition], endpoint="marketing_messages", params=["1"])
    assert len(option.faults) == 2
    assert "marketing_messages takes MARKETING only" in option.faults[0]
    assert "no parameter 1" in option.faults[1]


@given(st.lists(st.sampled_from(["en", "en_US", "de", "pt_BR!"]), unique=True), st.text(max_size=9))
def test_what_is_picked_is_one_of_them(codes: list[str], said: str) -> None:
    options = known(*codes)
    found = languages.pick(options, said)
    assert found is None or found in options
