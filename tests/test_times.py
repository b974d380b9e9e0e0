"""What people type becomes the instant they mean, on the two odd nights too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import times
from wabcast.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Pacific/Apia",
    "America/Nuuk",
]
NOW = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)  # 13:00 in Berlin, a Wednesday


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # year, month, day, ...


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("10m", 600),
        ("10 min", 600),
        ("2h", 7200),
        ("3d", 259_200),
        ("1h30m", 5400),
        (" 1H 30M ", 5400),
        ("1.5h", 5400),
        ("0s", 0),
        ("0", 0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert times.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "1.5", "-5s", "5x", "s", "5s5s", "1h30", "h1", "٥s", "99999999999d", "9" * 400 + "s"],
)
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        times.duration(text, option="--batch-delay")
    assert caught.value.message.startswith("--batch-delay: ")
    assert "500ms" in caught.value.hint


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=-5), "0 s"),
        (timedelta(milliseconds=250), "250 ms"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(minutes=4, seconds=10), "4 min 10 s"),
        (timedelta(hours=2, minutes=5, seconds=9), "2 h 5 min"),
        (timedelta(hours=2, seconds=9), "2 h"),
        (timedelta(days=3, hours=4), "3 d 4 h"),
    ],
)
def test_durations_are_shown(length: timedelta, shown: str) -> None:
    assert times.show_duration(length) == shown


@given(st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=3000)))
def test_what_is_shown_can_be_read_and_is_never_longer(length: timedelta) -> None:
    read = times.duration(times.show_duration(length))
    assert read <= length <= read * 2


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-11-05T10:00:00Z", at(2026, 11, 5, 10)),
        ("2026-11-05T10:00:00.250Z", at(2026, 11, 5, 10, 0, 0, 250_000)),
        ("2026-11-05t10:00+02:00", at(2026, 11, 5, 8)),
        ("2026-11-05 10:00 -0300", at(2026, 11, 5, 13)),
        ("2026-11-05T10:00", at(2026, 11, 5, 9)),
        ("2026-11-05 10:00", at(2026, 11, 5, 9)),
        ("2026-07-05  10:00:30", at(2026, 7, 5, 8, 0, 30)),
        ("13:01", at(2026, 11, 4, 12, 1)),
        ("13:00", at(2026, 11, 5, 12)),
        ("9:00", at(2026, 11, 5, 8)),
        ("today 09:00", at(2026, 11, 4, 8)),
        ("Tomorrow 09:00", at(2026, 11, 5, 8)),
        ("tomorrow at 09:00", at(2026, 11, 5, 8)),
        ("wed 09:00", at(2026, 11, 11, 8)),
        ("Friday 09:00", at(2026, 11, 6, 8)),
        ("+2h", at(2026, 11, 4, 14)),
        ("in 1h30m", at(2026, 11, 4, 13, 30)),
        ("now", NOW),
        ("2026-03-29 02:30", at(2026, 3, 29, 1)),  # never comes: the jump to 03:00
        ("2026-10-25 02:30", at(2026, 10, 25, 0, 30)),  # comes twice: the first
    ],
)
def test_moments_are_read(text: str, when: datetime) -> None:
    read = times.moment(text, zone=BERLIN, now=NOW)
    assert read == when
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-11-05",
        "tomorrow",
        "2026-02-29 09:00",
        "2026-11-05 24:00",
        "25:00",
        "2026-11-05x10:00",
        "1000",
        "0001-01-01 00:00",
        "9999-12-31 23:59-12:00",
        "someday 09:00",
        "+2",
        "in 99999999d",
    ],
)
def test_other_moments_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        times.moment(text, zone=BERLIN, now=NOW, option="--at")
    assert caught.value.message.startswith("--at: ")
    assert caught.value.hint


@pytest.mark.parametrize("name", ZONES)
@given(
    walls=st.tuples(
        *[st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2037, 1, 1))] * 2  # noqa: DTZ001  # wall times have no zone
    )
)
def test_a_later_wall_time_is_never_an_earlier_instant(
    name: str, walls: tuple[datetime, datetime]
) -> None:
    zone = ZoneInfo(name)
    first, second = sorted(walls)
    assert times.instant(first, zone) <= times.instant(second, zone)
    if not times.swallowed(first, zone):
        assert times.wall_time(times.instant(first, zone), zone) == first


@pytest.mark.parametrize(
    ("name", "wall", "gap", "then"),
    [
        ("Europe/Berlin", "2026-03-29T02:30", timedelta(hours=1), "2026-03-29T03:00"),
        ("America/New_York", "2026-03-08T02:00", timedelta(hours=1), "2026-03-08T03:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:10", timedelta(minutes=30), "2026-10-04T02:30"),
        ("America/Sao_Paulo", "2018-11-04T00:00", timedelta(hours=1), "2018-11-04T01:00"),
        ("America/Nuuk", "2026-03-28T23:30", timedelta(hours=1), "2026-03-29T00:00"),
        ("Pacific/Apia", "2011-12-30T09:00", timedelta(days=1), "2011-12-31T00:00"),
        ("Asia/Kolkata", "2026-03-29T02:30", timedelta(0), "2026-03-29T02:30"),
    ],
)
def test_a_time_that_never_comes_is_the_moment_of_the_jump(
    name: str, wall: str, gap: timedelta, then: str
) -> None:
    zone, local = ZoneInfo(name), datetime.fromisoformat(wall)
    assert times.swallowed(local, zone) == gap
    shown = times.wall_time(times.instant(local, zone), zone)
    assert shown == datetime.fromisoformat(then)


@pytest.mark.parametrize("name", ["0/" * 2000, "x" * 200_000, "a." * 500])
def test_a_zone_as_long_as_no_name_is_none(name: str) -> None:
    assert times.known_zone(name) is None
    with pytest.raises(UsageError, match="there is no time zone"):
        times.zone(name, default=BERLIN)


def test_zones_are_found_in_any_case_and_default_to_the_one_given() -> None:
    assert times.zone(None, default=BERLIN) is BERLIN
    assert times.zone(" europe/berlin ", default=ZoneInfo("UTC")) == BERLIN
    assert times.zone("America/New York", default=BERLIN).key == "America/New_York"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("sao paulo", "America/Sao_Paulo"),
        ("Europe", ""),
        ("", ""),
        ("../etc/passwd", ""),
        ("/etc/localtime", ""),
        ("UTC+2:00", ""),
        ("a\0b", ""),
        ("x" * 5000, ""),
    ],
)
def test_an_unknown_zone_names_its_neighbours(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        times.zone(name, default=BERLIN)
    assert "--timezone" in caught.value.message
    assert near in caught.value.hint
    assert caught.value.hint


@pytest.mark.parametrize(
    ("env", "link", "key"),
    [
        (None, None, "UTC"),
        (None, "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
        (None, "../usr/share/zoneinfo/posix/Asia/Kolkata", "Asia/Kolkata"),
        (None, "/var/db/timezone/zoneinfo/America/New_York", "America/New_York"),
        (None, "/somewhere/else", "UTC"),
        (None, "Asia/Kolkata\n", "Asia/Kolkata"),
        ("", "/usr/share/zoneinfo/Europe/Berlin", "UTC"),
        ("UTC0", None, "UTC"),
        (":America/Sao_Paulo", None, "America/Sao_Paulo"),
        (":/usr/share/zoneinfo/Europe/Berlin", None, "Europe/Berlin"),
        ("EST5EDT", None, "EST5EDT"),
    ],
)
def test_the_zone_of_the_machine(env: str | None, link: str | None, key: str) -> None:
    assert times.machine_zone(env, link).key == key


def test_a_posix_rule_in_tz_is_not_guessed_at() -> None:
    with pytest.raises(UsageError, match="TZ"):
        times.machine_zone("CET-1CEST,M3.5.0,M10.5.0/3", "/usr/share/zoneinfo/Europe/Berlin")
