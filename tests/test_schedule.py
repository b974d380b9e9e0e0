"""Each local occurrence at most once, never backwards, never a stall, on odd nights too."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wabcast.errors import UsageError
from wabcast.schedule import Due, Missed, Recurrence, due, missed_note, occurrence_name
from wabcast.times import swallowed, wall_time

BERLIN = ZoneInfo("Europe/Berlin")
# A day before each night on which the clocks jump.
NIGHTS = [
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Sao_Paulo", "2018-11-03"),
    ("America/Sao_Paulo", "2018-02-17"),
    ("Asia/Kolkata", "2026-03-28"),
    ("Pacific/Apia", "2011-12-29"),
    ("America/Nuuk", "2026-03-28"),
]
RULES = [
    "cron:0 0 * * *",
    "cron:30 2 * * *",
    "cron:0,30 1-3 * * *",
    "cron:*/10 2 * * *",
    "cron:*/20 * * * *",
    "cron:* * * * *",
    "cron:15 */2 * * *",
    "FREQ=DAILY",
    "FREQ=DAILY;BYHOUR=0;BYMINUTE=0",
    "FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
    "FREQ=DAILY;BYHOUR=0,1,2,3;BYMINUTE=0,15,30,45",
    "FREQ=HOURLY",
    "FREQ=HOURLY;INTERVAL=5;BYMINUTE=0,30",
]


def walls(rule: str, zone: ZoneInfo, start: str, count: int = 6) -> list[str]:
    begin = datetime.fromisoformat(start).replace(tzinfo=zone)
    found = Recurrence.parse(rule, start=begin, zone=zone).occurrences(
        begin - timedelta(seconds=1), begin + timedelta(days=40 * 366), limit=count
    )
    return [f"{wall_time(when, zone):%Y-%m-%dT%H:%M}" for when in found]


def test_cron_on_the_spring_night_comes_at_the_jump_and_in_autumn_once() -> None:
    assert walls("cron:30 2 * * *", BERLIN, "2026-03-28T00:00", 3) == [
        "2026-03-28T02:30",
        "2026-03-29T03:00",
        "2026-03-30T02:30",
    ]
    autumn = Recurrence.parse(
        "cron:30 2 * * *", start=datetime(2026, 10, 24, 12, tzinfo=UTC), zone=BERLIN
    )
    assert list(autumn.occurrences(autumn.start, autumn.start + timedelta(days=2))) == [
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]


def test_nine_in_the_morning_stays_nine_over_both_changes() -> None:
    rule = "FREQ=WEEKLY;BYDAY=MO;BYHOUR=9"
    assert walls(rule, BERLIN, "2026-03-23T08:00", 3) == [
        "2026-03-23T09:00",
        "2026-03-30T09:00",
        "2026-04-06T09:00",
    ]
    assert walls("cron:'0 9 * * 1'", BERLIN, "2026-10-20T00:00", 2) == [
        "2026-10-26T09:00",
        "2026-11-02T09:00",
    ]


def test_a_day_struck_from_the_calendar_has_no_occurrence() -> None:
    apia = ZoneInfo("Pacific/Apia")
    for rule in ("cron:0 9 * * *", "FREQ=DAILY;BYHOUR=9"):
        assert walls(rule, apia, "2011-12-29T09:00", 3) == [
            "2011-12-29T09:00",
            "2011-12-31T09:00",
            "2012-01-01T09:00",
        ]


def test_29_february_and_the_31st_come_when_they_are() -> None:
    leap = ["2028-02-29T09:00", "2032-02-29T09:00"]
    assert walls("FREQ=YEARLY", BERLIN, "2028-02-29T09:00", 2) == leap
    assert walls("cron:0 9 29 2 *", BERLIN, "2026-01-01T00:00", 2) == leap
    long = ["2026-01-31T09:00", "2026-03-31T09:00", "2026-05-31T09:00"]
    assert walls("FREQ=MONTHLY", BERLIN, "2026-01-31T09:00", 3) == long
    assert walls("cron:0 9 31 * *", BERLIN, "2026-01-01T00:00", 3) == long
    ends = ["2026-01-31T09:00", "2026-02-28T09:00", "2026-03-31T09:00"]
    assert walls("FREQ=MONTHLY;BYMONTHDAY=-1", BERLIN, "2026-01-01T09:00", 3) == ends
    assert walls("cron:0 9 L * *", BERLIN, "2026-01-01T00:00", 3) == ends


def test_weekdays_of_distant_years_are_right() -> None:
    # The calendar is asked 7,600 years later, where its weekdays are the same.
    for text in walls("FREQ=MONTHLY;BYDAY=-1FR", BERLIN, "2026-01-01T09:00", 400):
        assert datetime.fromisoformat(text).weekday() == 4


def test_until_and_count_end_it() -> None:
    assert walls("FREQ=DAILY;COUNT=2", BERLIN, "2026-11-05T09:00") == [
        "2026-11-05T09:00",
        "2026-11-06T09:00",
    ]
    assert len(walls("FREQ=DAILY;UNTIL=20261107", BERLIN, "2026-11-05T09:00")) == 3
    assert len(walls("RRULE:FREQ=DAILY;UNTIL=20261107T080000Z", BERLIN, "2026-11-05T09:00")) == 3
    assert len(walls("FREQ=DAILY;UNTIL=20261107T075959Z", BERLIN, "2026-11-05T09:00")) == 2
    rule = Recurrence.parse(
        "FREQ=DAILY;COUNT=2", start=datetime(2026, 11, 5, tzinfo=UTC), zone=BERLIN
    )
    assert rule.next_after(datetime(2026, 12, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "day"), NIGHTS)
def test_on_every_odd_night_once_in_order_and_without_a_stall(
    rule: str, name: str, day: str
) -> None:
    zone = ZoneInfo(name)
    start = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=zone).astimezone(UTC)
    recurrence = Recurrence.parse(rule, start=start, zone=zone)
    found = list(
        recurrence.occurrences(start - timedelta(seconds=1), start + timedelta(days=4), limit=9999)
    )
    shown = [wall_time(when, zone) for when in found]
    assert all(first < second for first, second in pairwise(found))
    assert len(set(shown)) == len(shown)
    assert len({occurrence_name("n", wall) for wall in shown}) == len(shown)
    assert not any(swallowed(wall, zone) for wall in shown)
    # Walking one by one meets the same, from any place in between.
    walked, when = [], start - timedelta(seconds=1)
    for _ in found[:60]:
        following = recurrence.next_after(when)
        assert following is not None
        walked.append(following)
        when = following
    assert walked == found[:60]
    # The longest pause is the rule's own, and an hour or a day that came twice or never.
    usual = timedelta(days=1) if "DAILY" in rule or " * * * *" not in rule else timedelta(hours=1)
    jump = timedelta(days=1) if name == "Pacific/Apia" else timedelta(hours=1)
    if "INTERVAL" in rule:
        usual = timedelta(hours=5)
    assert all(second - first <= usual + jump for first, second in pairwise(found))


@settings(max_examples=150)
@given(
    st.sampled_from(RULES),
    st.sampled_from(NIGHTS),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3)),
    st.timedeltas(min_value=-timedelta(days=1), max_value=timedelta(days=1)),
)
def test_a_clock_set_back_fires_nothing_again(
    rule: str, night: tuple[str, str], later: timedelta, change: timedelta
) -> None:
    zone = ZoneInfo(night[0])
    start = datetime.fromisoformat(f"{night[1]}T00:00").replace(tzinfo=zone).astimezone(UTC)
    recurrence = Recurrence.parse(rule, start=start, zone=zone)
    now = start + later
    fired = recurrence.next_after(now)
    assert fired is not None
    assert fired > now
    again = recurrence.next_after(now + change, fired=fired)
    assert again is not None
    assert again > fired
    assert wall_time(again, zone) != wall_time(fired, zone)


def test_nothing_comes_before_the_start_and_the_start_itself_does() -> None:
    start = datetime(2026, 11, 5, 8, tzinfo=UTC)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    for text in ("cron:0 9 * * *", "FREQ=DAILY"):
        rule = Recurrence.parse(text, start=start, zone=BERLIN)
        assert rule.next_after(long_ago) == start
        assert rule.next_after(start) == start + timedelta(days=1)


def test_what_is_stored_reads_the_same() -> None:
    start = datetime(2026, 11, 5, 8, tzinfo=UTC)
    for text in ("cron:'0  9 * * mon'", "rrule:freq=weekly;byday=mo", " FREQ=DAILY; "):
        rule = Recurrence.parse(text, start=start, zone=BERLIN)
        assert Recurrence.parse(rule.text, start=start, zone=BERLIN) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "daily",
        "0 9 * * 1",
        "cron:",
        "cron:0 9 * *",
        "cron:0 0 9 * * 1",
        "cron:60 9 * * *",
        "cron:0 9 30 2 *",
        "cron:0 9 * * 5L/2",
        "cron:0 9 * * 1#2/3",
        "cron:a b c d e",
        "FREQ=",
        "FREQ=SECONDLY",
        "FREQ=MINUTELY",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=99999999999999999999",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=2;UNTIL=20270101",
        "FREQ=DAILY;UNTIL=20200101",
        "FREQ=DAILY;UNTIL=tomorrow",
        "FREQ=DAILY;UNTIL=20261399",
        "FREQ=DAILY;BYHOUR=24",
        "FREQ=DAILY;BYSECOND=0,30",
        "FREQ=DAILY;BYMONTH=13",
        "FREQ=DAILY;BYMONTHDAY=0",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYSETPOS=2",
        "FREQ=HOURLY;INTERVAL=24;BYHOUR=3",
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO",
        "FREQ=WEEKLY;BYDAY=1MO",
        "FREQ=WEEKLY;BYDAY=XX",
        "FREQ=WEEKLY;BYDAY=",
        "FREQ=WEEKLY;WKST=8",
        "FREQ=WEEKLY;FREQ=DAILY",
        "FREQ=WEEKLY;BYEASTER=1",
        "FREQ=WEEKLY;COLOUR=1",
        "DTSTART:20261105T090000\nRRULE:FREQ=DAILY",
    ],
)
def test_other_rules_are_refused_soon_and_with_examples(text: str) -> None:
    began = time.process_time()
    with pytest.raises(UsageError) as caught:
        Recurrence.parse(text, start=datetime(2026, 11, 5, 8, tzinfo=UTC), zone=BERLIN)
    assert time.process_time() - began < 3
    assert "--repeat" in caught.value.message
    assert "cron:'0 9 * * 1'" in caught.value.hint


HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("late", "run", "skip", "auto"),
    [
        (-SECOND, Due.NOT_YET, Due.NOT_YET, Due.NOT_YET),
        (timedelta(0), Due.RUN, Due.RUN, Due.RUN),
        (HOUR - SECOND, Due.RUN, Due.RUN, Due.RUN),
        (HOUR, Due.RUN, Due.SKIP, Due.ASK),
        (400 * HOUR, Due.RUN, Due.SKIP, Due.ASK),
    ],
)
def test_what_is_late_runs_and_what_was_missed_does_what_was_said(
    late: timedelta, run: Due, skip: Due, auto: Due
) -> None:
    planned = datetime(2026, 11, 5, 8, tzinfo=UTC)
    assert due(planned, planned + late, Missed.RUN) is run
    assert due(planned, planned + late, Missed.SKIP) is skip
    assert due(planned, planned + late) is auto


def test_names_and_notes_are_in_local_time() -> None:
    planned = datetime(2026, 11, 5, 8, tzinfo=UTC)
    assert occurrence_name("News", wall_time(planned, BERLIN)) == "News 2026-11-05 09:00"
    note = missed_note(planned, planned + timedelta(hours=3, minutes=5), BERLIN)
    assert note == "was due 2026-11-05 09:00, 3 h 5 min ago"
