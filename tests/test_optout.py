"""Which words opt out: whole messages, in any language, and nothing that only contains them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.optout import LONGEST, RESUME, STOP, plain, wish
from wabcast.receipts import Wish

WORDS = [word for words in STOP.values() for word in words.split("|")]
AGAIN = [word for words in RESUME.values() for word in words.split("|")]


@pytest.mark.parametrize(
    "text",
    [
        *("STOP", " stop ", "Stop.", "stop!!!", "STOP 🛑", '"Stop"', "st\u200bop", "ＳＴＯＰ"),
        *("OPT_OUT", "Arrêt", "ARRET", "СТОП", "إيقاف", "İPTAL ET", "बंद करो"),
        *("darme  de\nbaja", "退订"),
    ],
)
def test_these_opt_out(text: str) -> None:
    assert wish(text) is Wish.STOP


@pytest.mark.parametrize(
    "text",
    [
        *("please stop by the shop", "don't stop", "stop it now or else", "", "🛑", "no"),
        *("cancel", "non-stop", "STOPP!ING", "stop?start", "the end", "ok", "бад", "stop " * 40),
    ],
)
def test_these_do_not(text: str) -> None:
    assert wish(text) is None


def test_a_tap_counts_by_its_label_or_its_payload() -> None:
    assert wish("No more of this", "STOP") is Wish.STOP
    assert wish("Unsubscribe", "btn-2") is Wish.STOP
    assert wish("Yes", "yes") is None


def test_stop_wins_over_start() -> None:
    assert wish("START", "stop") is Wish.STOP
    assert wish("unstop") is Wish.RESUME


@given(st.sampled_from(WORDS), st.text(" .!?…\n\t\"'-", max_size=5), st.data())
def test_case_and_what_stands_around_do_not_matter(
    word: str, around: str, data: st.DataObject
) -> None:
    cased = data.draw(st.sampled_from([word, word.upper(), word.capitalize(), word.casefold()]))
    assert wish(around + cased + around) is Wish.STOP


@given(st.sampled_from(WORDS), st.text(st.characters(categories=["Ll", "Lu"]), min_size=25))
def test_a_word_inside_a_sentence_is_only_a_word(word: str, rest: str) -> None:
    assert wish(f"{word} {rest}") is None
    assert wish(f"{rest} {word}") is None


@pytest.mark.parametrize("word", AGAIN)
def test_resume_words_resume(word: str) -> None:
    assert wish(word) is Wish.RESUME


@given(st.text(max_size=200))
def test_any_text_is_survived_and_reading_is_stable(text: str) -> None:
    wish(text, text)
    assert plain(plain(text)) == plain(text)


def test_the_words_are_short_enough_to_be_looked_at() -> None:
    assert max(map(len, WORDS + AGAIN)) < LONGEST
