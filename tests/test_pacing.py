"""Windows: whatever is late or wakes up together, a sliding one never exceeds its rate."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.clock import SECOND
from wabcast.errors import UsageError
from wabcast.pacing import CATCH_UP, LATE, UNLIMITED, CoolDown, Log, Rate, Release, estimate

rates = st.builds(
    Rate, st.integers(1, 5000), st.sampled_from([1, 60, 3600, 86_400]).map(lambda s: s * SECOND)
)
RATES = ["1/s", "20/m", "600/m", "80/s", "500/s", "1000/s", "1000/h", "5000/d", "1/m"]


def busiest(moments: list[int], period: int) -> int:
    """The most in any window of `period`, whose ends lie `period` apart (the latter excluded)."""
    moments = sorted(moments)
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


# -- rates


@given(rates)
def test_a_rate_reads_what_it_writes(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("text", ["20/m", "20 / min", "20/MINUTE", " 20/m "])
def test_a_rate_is_read_as_people_write_it(text: str) -> None:
    assert Rate.parse(text) == Rate(20, 60 * SECOND)


@pytest.mark.parametrize("text", ["", "0/s", "20", "m/20", "-5/s", "1.5/s", "20/y", "20/mm", "٣/x"])
def test_what_is_no_rate_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Rate.parse(text)
    assert "20/m" in raised.value.hint


@given(st.text(max_size=12))
def test_any_text_is_a_rate_or_is_refused(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except UsageError:
        return
    assert rate.unlimited or rate.count > 0


def test_no_limit_has_no_pace() -> None:
    assert Rate.parse("max") == UNLIMITED
    assert str(UNLIMITED) == "max"
    assert UNLIMITED.per_minute is None
    assert Rate.parse("20/m").per_minute == 20
    assert Rate.parse("80/s").per_minute == 4800


@given(rates)
def test_the_slots_use_what_the_law_asks_for_and_no_more(rate: Rate) -> None:
    use = rate.period / rate.spacing / rate.count
    assert (0.99 if rate.per_second >= 500 else 0.97) < use < 1
    assert rate.period < rate.window_of(rate.count) < rate.spacing * rate.count
    assert 1 <= rate.bucket <= rate.count + 1


# -- the log


@st.composite
def _journeys(draw: st.DrawFn) -> tuple[Rate, list[tuple[int, int]]]:
    """Messages in the order of their entering: how long after the one before, and how late."""
    rate = Rate(draw(st.integers(1, 12)), draw(st.sampled_from([SECOND, 60 * SECOND])))
    gaps = st.integers(0, 2 * rate.period // rate.count)
    late = st.one_of(st.just(0), st.integers(0, 3 * rate.period))
    return rate, draw(st.lists(st.tuples(gaps, late), max_size=80))


@given(_journeys())
def test_no_window_of_releases_exceeds_the_rate(
    journeys: tuple[Rate, list[tuple[int, int]]],
) -> None:
    """Each message enters in turn, is late as it likes, and leaves as soon as it has room."""
    rate, steps = journeys
    log, now, left = Log(rate), 0, []
    waiting: list[tuple[int, Release]] = []
    for gap, late in steps:
        now += gap
        waiting.append((now + late, log.enter()))
    for moment, _ in _leave(log, waiting):
        left.append(moment)
    assert len(left) == len(steps), "nobody waits for ever"
    assert busiest(left, rate.period) <= rate.count


def _leave(log: Log, waiting: list[tuple[int, Release]]) -> list[tuple[int, Release]]:
    """Time passes: the earliest that may leave does."""
    left: list[tuple[int, Release]] = []
    while waiting:
        may = [
            (max(ready, room), number)
            for number, (ready, release) in enumerate(waiting)
            if (room := log.room(release)) is not None
        ]
        assert may, "all wait for somebody who waits"
        moment, number = min(may)
        _, release = waiting.pop(number)
        Log.released(release, moment)
        left.append((moment, release))
    return left


@given(st.integers(1, 10), st.integers(1, 60))
def test_a_message_that_does_not_leave_bars_nobody_for_ever(count: int, people: int) -> None:
    rate = Rate(count, SECOND)
    log = Log(rate)
    for number in range(people):
        release = log.enter()
        assert log.room(release) is not None
        Log.released(release, number)
        assert release.before is None  # the chain does not keep all that ever left


def test_whom_a_late_one_bars_waits_until_it_has_left() -> None:
    log = Log(Rate(1, SECOND))
    first, second = log.enter(), log.enter()
    assert log.room(first) == 0
    assert log.room(second) is None
    Log.released(first, 5 * SECOND)
    assert log.room(second) == 6 * SECOND + SECOND // 200


# -- the cool-down


def test_a_cool_down_doubles_from_a_second_to_a_minute() -> None:
    cool = CoolDown()
    waits = []
    for _ in range(100):
        pause = cool.strike(cool.era, timedelta(0))
        assert pause is not None
        waits.append(pause.total_seconds())
    assert waits == [1, 2, 4, 8, 16, 32, *[60] * 94]


def test_what_had_its_slot_before_is_no_news() -> None:
    cool = CoolDown()
    before = cool.era
    assert cool.strike(before, timedelta(0)) == timedelta(seconds=1)
    assert cool.strike(before, timedelta(0)) is None
    assert not cool.relieve(before)
    assert cool.strikes == 1
    assert cool.strike(cool.era, timedelta(seconds=90)) == timedelta(seconds=90)
    assert cool.relieve(cool.era)
    assert not cool.relieve(cool.era), "once"
    assert cool.strike(before, timedelta(0)) == timedelta(seconds=1)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_a_cool_down_is_bounded_whatever_comes(steps: list[int]) -> None:
    cool = CoolDown()
    for before in steps:
        pause = cool.strike(cool.era - before, timedelta(0))
        if pause is not None:
            assert timedelta(seconds=1) <= pause <= cool.longest


# -- how long it takes


def test_the_seeds_defaults_take_as_long_as_they_say() -> None:
    spread = estimate(Rate.parse("20/m"), 1000, batch_size=100, batch_delay=timedelta(seconds=5))
    assert timedelta(minutes=50) < spread < timedelta(minutes=52)


@given(rates, st.integers(0, 10**6), st.integers(1, 1000))
def test_more_people_never_take_less_time(rate: Rate, people: int, batch: int) -> None:
    pause = timedelta(seconds=5)
    less = estimate(rate, people, batch_size=batch, batch_delay=pause)
    more = estimate(rate, people + 1, batch_size=batch, batch_delay=pause)
    assert timedelta(0) <= less <= more


@pytest.mark.parametrize("text", RATES)
def test_a_start_has_no_burst(text: str) -> None:
    """A bucket that fills a window by itself would let through twice the rate."""
    rate = Rate.parse(text)
    assert rate.bucket * rate.spacing <= max(2 * rate.spacing, CATCH_UP)
    assert rate.bucket == 1 or rate.bucket < rate.count / 10
    assert LATE > CATCH_UP
