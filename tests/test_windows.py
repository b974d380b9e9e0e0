"""Windows are right on the walls of every zone, on the two odd nights too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wabcast.errors import UsageError
from wabcast.times import wall_time
from wabcast.windows import Span, Window, recipient_zone, zones_of

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
KOLKATA = ZoneInfo("Asia/Kolkata")
HONOLULU = ZoneInfo("Pacific/Honolulu")
SOON = timedelta(microseconds=1)

# Around the nights on which the clocks jump.
NIGHTS = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
    ("Asia/Kolkata", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
]

minute = st.integers(0, 1439) | st.sampled_from([0, 60, 90, 120, 150, 180, 1380])
spans = st.builds(
    Span,
    st.frozensets(st.integers(0, 6), min_size=1) | st.just(frozenset(range(7))),
    minute,
    minute | st.just(1440),
).filter(lambda span: span.start != span.end and span.end != 0)
windows = st.lists(spans, min_size=1, max_size=3).map(lambda found: Window(tuple(found)))
near = st.tuples(
    st.sampled_from(NIGHTS),
    st.timedeltas(min_value=-timedelta(days=2), max_value=timedelta(days=2)),
).map(lambda found: (ZoneInfo(found[0][0]), found[0][1] + found[1]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("09:00-20:00", "09:00-20:00"),
        ("9-17", "09:00-17:00"),
        (" 9:30 - 17:00 ", "09:30-17:00"),
        ("22:00-06:00", "22:00-06:00"),
        ("00:00-24:00", "00:00-24:00"),
        ("22:00-00:00", "22:00-24:00"),
        ("09:00-12:00,14:00-18:00", "09:00-12:00,14:00-18:00"),
        ("Mon-Fri 09:00-20:00", "mon-fri 09:00-20:00"),
        ("mon-fri 9:00-12:00, 14:00-18:00", "mon-fri 09:00-12:00,14:00-18:00"),
        ("mon-fri 09:00-20:00,sat 10:00-14:00", "mon-fri 09:00-20:00,sat 10:00-14:00"),
        ("mon,wed,friday 09:00-12:00", "mon,wed,fri 09:00-12:00"),
        ("sat-mon 09:00-12:00", "mon,sat-sun 09:00-12:00"),
    ],
)
def test_windows_are_read_and_shown(text: str, shown: str) -> None:
    assert str(Window.parse(text)) == shown
    assert Window.parse(shown) == Window.parse(text)


@given(windows)
def test_what_is_shown_reads_as_the_same_window(window: Window) -> None:
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "09:00",
        "09:00-",
        "09:00-09:00",
        "09:00-25:00",
        "24:00-09:00",
        "09:60-10:00",
        "09:00-24:01",
        "mon-fri",
        "foo 09:00-10:00",
        "mon-foo 09:00-10:00",
        "09:00-20:00,mon",
        "09:00-20:00 mon",
        "٠٩:00-20:00",
    ],
)
def test_other_windows_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Window.parse(text)
    assert "--window" in caught.value.message
    assert "09:00-20:00" in caught.value.hint


def test_waiting_and_closing_by_day() -> None:
    window = Window.parse("09:00-20:00")
    noon = datetime(2026, 11, 4, 11, tzinfo=UTC)
    assert window.wait(noon, BERLIN) == timedelta(0)
    assert window.closes(noon, BERLIN) == datetime(2026, 11, 4, 19, tzinfo=UTC)
    night = datetime(2026, 11, 4, 19, tzinfo=UTC)
    assert window.wait(night, BERLIN) == timedelta(hours=13)
    assert window.closes(night, BERLIN) == night


def test_weekdays_over_midnight_belong_to_the_day_they_start_on() -> None:
    window = Window.parse("fri 22:00-06:00")
    saturday = datetime(2026, 11, 7, 4, 59, tzinfo=UTC)
    assert window.is_open(saturday, BERLIN)
    assert window.wait(saturday + timedelta(minutes=1), BERLIN) == timedelta(days=6, hours=16)


def test_all_day_never_closes() -> None:
    window = Window.parse("00:00-24:00")
    now = datetime(2026, 11, 4, 11, tzinfo=UTC)
    assert window.closes(now, BERLIN) is None
    assert window.wait(now, BERLIN) == timedelta(0)


def test_the_spring_night_is_an_hour_shorter_and_the_autumn_night_longer() -> None:
    window = Window.parse("09:00-20:00")
    spring = datetime(2026, 3, 28, 19, tzinfo=UTC)
    assert window.wait(spring, BERLIN) == timedelta(hours=12)
    autumn = datetime(2026, 10, 24, 18, tzinfo=UTC)
    assert window.wait(autumn, BERLIN) == timedelta(hours=14)


def test_a_start_that_never_comes_opens_at_the_jump() -> None:
    window = Window.parse("02:30-04:00")
    before = datetime(2026, 3, 29, 0, tzinfo=UTC)
    assert window.opens(before, BERLIN) == datetime(2026, 3, 29, 1, tzinfo=UTC)


@settings(max_examples=200)
@given(windows, near)
def test_it_opens_and_closes_exactly_when_the_wall_says_so(
    window: Window, where: tuple[ZoneInfo, datetime]
) -> None:
    zone, now = where
    opens = window.opens(now, zone)
    assert now <= opens <= now + timedelta(days=15)
    assert any(span.covers(wall_time(opens, zone)) for span in window.spans)
    if opens > now:
        assert not window.is_open(opens - SOON, zone)
        # Nothing was passed over: no quarter of an hour before it was open.
        for i in range(min((opens - now) // timedelta(minutes=15), 300)):
            assert not window.is_open(now + i * timedelta(minutes=15), zone)
    closes = window.closes(now, zone)
    if closes is not None:
        assert not window.is_open(closes, zone)
        assert closes == now or window.is_open(closes - SOON, zone)
        for i in range(min((closes - now) // timedelta(minutes=15), 300)):
            assert window.is_open(now + i * timedelta(minutes=15), zone)


@given(windows, near, st.lists(st.sampled_from([BERLIN, NEW_YORK, KOLKATA]), min_size=1))
def test_waiting_for_all_is_open_in_all_or_in_the_first(
    window: Window, where: tuple[ZoneInfo, datetime], zones: list[ZoneInfo]
) -> None:
    _, now = where
    wait = window.wait_all(now, tuple(zones))
    assert wait >= timedelta(0)
    everywhere = all(window.is_open(now + wait, zone) for zone in zones)
    assert everywhere or wait == window.wait(now, zones[0])
    if everywhere and wait:
        assert not all(window.is_open(now + wait - SOON, zone) for zone in zones)


def test_zones_that_are_never_open_together_use_the_first() -> None:
    window = Window.parse("09:00-10:00")
    now = datetime(2026, 11, 4, 11, tzinfo=UTC)
    assert window.wait_all(now, (BERLIN, KOLKATA)) == window.wait(now, BERLIN)
    day = Window.parse("09:00-20:00")
    together = now + day.wait_all(now, (NEW_YORK, HONOLULU))
    assert together == datetime(2026, 11, 4, 19, tzinfo=UTC)  # 09:00 in Honolulu


@pytest.mark.parametrize(
    ("phone", "column", "keys"),
    [
        ("+491701234567", None, ["Europe/Berlin"]),
        ("+491701234567", "Asia/Kolkata", ["Asia/Kolkata"]),
        ("+491701234567", "asia/kolkata", ["Asia/Kolkata"]),
        ("+491701234567", "Berlin time", ["Europe/Berlin"]),
        ("+491701234567", "", ["Europe/Berlin"]),
        ("+12025550123", None, ["America/New_York"]),
        ("+870123456789", None, ["UTC"]),
        ("+999123", None, ["UTC"]),
        ("", None, ["UTC"]),
        ("no number", "../etc", ["UTC"]),
    ],
)
def test_the_zones_of_a_number(phone: str, column: str | None, keys: list[str]) -> None:
    zones = zones_of(phone, column, ZoneInfo("UTC"))
    assert [zone.key for zone in zones] == keys
    assert recipient_zone(phone, column, ZoneInfo("UTC")).key == keys[0]


def test_a_mobile_of_a_wide_country_has_all_its_zones_and_no_other_countrys() -> None:
    keys = [zone.key for zone in zones_of("+79161234567", None, BERLIN)]
    assert keys[0] == "Europe/Moscow"
    assert {"Asia/Kamchatka", "Asia/Yekaterinburg"} < set(keys)
    assert not {"Asia/Almaty", "Europe/Bucharest"} & set(keys)
    # Still some hours a day in which nobody there is woken.
    now = datetime(2026, 11, 4, 20, tzinfo=UTC)
    zones = zones_of("+79161234567", None, BERLIN)
    when = now + Window.parse("09:00-20:00").wait_all(now, zones)
    assert {9 <= wall_time(when, zone).hour < 20 for zone in zones} == {True}
