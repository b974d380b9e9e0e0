from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.errors import UsageError
from wabcast.ramp import Ramp, days

FIRST = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
steps = st.lists(st.integers(1, 10**6), min_size=1, max_size=30).map(tuple)
caps = st.none() | st.integers(1, 10**6)
ages = st.timedeltas(timedelta(days=-400), timedelta(days=400))


@pytest.mark.parametrize(
    ("hours", "cap", "people"),
    [
        (0, None, 50),
        (23.9, None, 50),
        (24, None, 100),
        (72, None, 200),
        (24 * 300, None, 200),
        (24, 70, 70),
        (72, 1000, 1000),
        (72, 10, 10),
        (-1000, 1000, 50),
    ],
)
def test_a_day_of_use_is_a_step(hours: float, cap: int | None, people: int) -> None:
    ramp = Ramp.parse("50/d, 100/d,200/day")
    assert ramp.cap(cap, FIRST, FIRST + timedelta(hours=hours)) == people


def test_an_account_that_was_never_used_is_at_its_first_step() -> None:
    assert Ramp.parse("50/d,100/d").cap(None, None, FIRST) == 50


@pytest.mark.parametrize("text", ["", "50", "50/h", "0/d", "50/d,", "-5/d", "5.5/d", "50/d 60/d"])
def test_what_is_no_ramp_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Ramp.parse(text)
    assert "--ramp" in caught.value.message
    assert caught.value.hint


@given(steps)
def test_what_is_shown_is_read_as_the_same(people: tuple[int, ...]) -> None:
    assert Ramp.parse(str(Ramp(people))) == Ramp(people)


@given(steps, caps, ages)
def test_it_never_raises_the_daily_cap_and_ends_with_it(
    people: tuple[int, ...], cap: int | None, age: timedelta
) -> None:
    allowed = Ramp(people).cap(cap, FIRST, FIRST + age)
    if cap is not None:
        assert allowed <= cap
    if age < timedelta(days=len(people)):
        assert allowed <= people[max(age // timedelta(days=1), 0)]
    else:
        assert allowed == (people[-1] if cap is None else cap)


@given(
    people=st.integers(1, 3000),
    caps=st.lists(st.integers(1, 400), min_size=1, max_size=6),
    reached=st.integers(0, 500),
)
def test_a_day_takes_as_many_as_there_is_room_for(
    people: int, caps: list[int], reached: int
) -> None:
    day, room = 0, max(caps[0] - reached, 0)
    while room < people:
        day += 1
        room += caps[min(day, len(caps) - 1)]
    assert days(people, caps, reached) == day
