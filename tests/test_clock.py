from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from wabcast import clock
from wabcast.clock import Clock

MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001  # hypothesis adds the zone
    max_value=datetime(2199, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)


@given(MOMENTS)
def test_micros_lose_nothing(when: datetime) -> None:
    assert clock.from_micros(clock.to_micros(when)) == when


@given(MOMENTS)
def test_text_is_utc_with_milliseconds_and_comes_back(when: datetime) -> None:
    text = clock.text(when)
    assert len(text) == 24
    assert text.endswith("Z")
    assert timedelta(0) <= when - clock.parse(text) < timedelta(milliseconds=1)
    assert clock.text(clock.to_micros(when)) == text


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_their_times(one: datetime, other: datetime) -> None:
    assert (clock.text(one) < clock.text(other)) <= (one < other)


def test_ids_are_uuids_of_version_7_and_sort_by_birth(clock: Clock) -> None:
    first = clock.new_id()
    clock.advance(1)  # type: ignore[attr-defined]  # the still clock of conftest
    second = clock.new_id()
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert first < second
    assert len({clock.new_id() for _ in range(1000)}) == 1000


def test_the_machine_s_clock_is_aware_and_goes_on() -> None:
    machine = Clock()
    assert machine.now().tzinfo is UTC
    assert machine.micros() <= machine.micros()
