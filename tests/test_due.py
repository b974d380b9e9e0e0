"""What `run` finds to do: each occurrence at most once, whatever the clock does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from conftest import StillClock
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import control, due, locks
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import parse, text, to_micros
from wabcast.errors import Refused, UsageError
from wabcast.schedule import Recurrence
from wabcast.store import campaigns
from wabcast.store.database import immediate
from wabcast.times import instant, wall_time

SKIPPED = "update campaign_messages set status = 'skipped' where campaign_id = :number"

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "UTC")


class Cron:
    """`run` without its sending: looks, and takes what is ready as if it had sent it."""

    def __init__(self, db: Connection, path: Path, clock: StillClock) -> None:
        self.db, self.path, self.clock = db, path, clock
        self.sent: list[str] = []
        self.asked: list[str] = []

    def look(self) -> due.Look:
        return due.look(self.db, self.path, clock=self.clock, home=BERLIN)

    def run(self) -> due.Look:
        found = self.look()
        self.asked += [campaign.name for campaign in found.asked]
        for campaign in found.ready:
            verb = due.verb(campaign, self.clock.now())
            assert verb is not None
            at = text(self.clock.now())
            with immediate(self.db):
                assert campaigns.move(self.db, campaign, verb, at=at, run="r")
                owed = {"number": campaign.number}
                self.db.execute(SKIPPED, owed)  # as if it had gone to everybody
                assert campaigns.move(self.db, campaign, "complete", at=at)
            self.sent.append(campaign.name)
        return found

    def set(self, wall: datetime, zone: ZoneInfo = BERLIN) -> None:
        self.clock._micros = to_micros(instant(wall, zone))  # set, as a person sets it


@pytest.fixture
def cron(db: Connection, db_path: Path, clock: StillClock) -> Cron:
    return Cron(db, db_path, clock)


def recurring(
    cron: Cron, make: Make, rule: str, *, at: datetime | None = None, zone: ZoneInfo = BERLIN
) -> Campaign:
    start = at or cron.clock.now()
    campaign = make.campaign("news", people=2)
    parsed = Recurrence.parse(rule, start=start, zone=zone)
    return control.schedule(cron.db, campaign, at=start, clock=cron.clock, rule=parsed)


def test_one_that_is_due_is_started_and_one_that_is_not_is_left(cron: Cron, make: Make) -> None:
    campaign = make.campaign()
    control.schedule(cron.db, campaign, at=cron.clock.now() + HOUR, clock=cron.clock)
    assert cron.run() == due.Look()
    cron.clock.advance(HOUR + 59 * MINUTE)
    cron.run()
    assert cron.sent == ["spring"]
    cron.clock.advance(-HOUR)  # a clock that was set back starts nothing again
    assert cron.run() == due.Look()


@pytest.mark.parametrize(
    ("if_missed", "status", "reason"),
    [
        ("auto", "paused", "was due 2026-11-05 11:00, 3 h ago"),
        ("skip", "draft", "skipped: was due 2026-11-05 11:00, 3 h ago"),
        ("run", "scheduled", None),
    ],
)
def test_late_by_an_hour_or_more(
    cron: Cron, make: Make, if_missed: str, status: str, reason: str | None
) -> None:
    campaign = make.campaign(timezone="Europe/Berlin")
    control.schedule(cron.db, campaign, at=cron.clock.now(), clock=cron.clock, if_missed=if_missed)
    cron.clock.advance(3 * HOUR)
    found = cron.look()
    now = make.look(campaign)
    assert (now.status, now.reason) == (status, reason)
    assert [c.name for c in found.asked] == (["spring"] if if_missed == "auto" else [])
    assert [c.name for c in found.ready] == (["spring"] if if_missed == "run" else [])
    assert bool(found.notes) is (if_missed == "skip")
    assert due.verb(now, cron.clock.now()) == ("start" if if_missed == "run" else None)


def test_a_dead_run_is_taken_over_and_a_living_one_is_not(
    cron: Cron, make: Make, db_path: Path
) -> None:
    campaign = make.campaign(status="running", run_id="gone")
    with locks.held(db_path, campaign):
        found = cron.look()
        assert (found.ready, [c.name for c in found.held]) == ([], ["spring"])
    assert [c.name for c in cron.look().ready] == ["spring"]
    assert due.verb(campaign, cron.clock.now()) == "take over"


def test_only_a_pause_that_says_until_when_ends_by_itself(cron: Cron, make: Make) -> None:
    campaign = make.campaign(status="running", run_id="r")
    until = cron.clock.now() + HOUR
    with immediate(cron.db):
        campaigns.move(
            cron.db, campaign, "pause", at=make.at, reason="window", resume_at=text(until)
        )
    assert cron.look().ready == []
    cron.clock.advance(HOUR)
    assert due.verb(make.look(campaign), cron.clock.now()) == "resume"
    assert [c.name for c in cron.look().ready] == ["spring"]
    make.campaign("by hand", status="paused")
    assert [c.name for c in cron.look().ready] == ["spring"]


def test_a_pause_by_a_clock_that_was_years_ahead_ends(cron: Cron, make: Make) -> None:
    campaign = make.campaign(status="running", run_id="r")
    cron.clock.advance(4 * 365 * DAY)
    with immediate(cron.db):
        later = text(cron.clock.now() + HOUR)
        campaigns.move(cron.db, campaign, "pause", at=make.at, reason="window", resume_at=later)
    cron.clock.advance(-4 * 365 * DAY)
    assert [c.name for c in cron.look().ready] == ["spring"]


# -- recurrences


def test_a_recurring_campaign_makes_a_dated_copy_for_whoever_is_there_then(
    cron: Cron, make: Make
) -> None:
    cron.set(datetime(2026, 11, 5, 8, 30))  # noqa: DTZ001  # wall time
    pattern = recurring(cron, make, "cron:0 9 * * 1")
    assert pattern.scheduled_at == "2026-11-09T08:00:00.000Z"
    make.contact()
    cron.set(datetime(2026, 11, 9, 9, 0, 20))  # noqa: DTZ001  # wall time
    cron.run()
    assert cron.sent == ["news 2026-11-09 09:00"]
    copy = campaigns.get(cron.db, "news 2026-11-09 09:00")
    assert (copy.total_recipients, copy.repeat, copy.content) == (3, None, pattern.content)
    now = make.look(pattern)
    assert (now.status, now.total_recipients) == ("scheduled", 2)
    assert now.scheduled_at == "2026-11-16T08:00:00.000Z"
    assert now.last_fired_at == "2026-11-09T08:00:00.000Z"
    assert cron.run() == due.Look()


def test_several_missed_are_one(cron: Cron, make: Make) -> None:
    pattern = recurring(cron, make, "cron:0 9 * * *")
    cron.set(datetime(2026, 11, 20, 9, 10))  # noqa: DTZ001  # wall time
    cron.run()
    assert cron.sent == ["news 2026-11-20 09:00"]
    assert make.look(pattern).scheduled_at == "2026-11-21T08:00:00.000Z"


def test_a_missed_occurrence_asks_and_the_others_go_on(cron: Cron, make: Make) -> None:
    recurring(cron, make, "cron:0 9 * * *")
    cron.set(datetime(2026, 11, 20, 15, 0))  # noqa: DTZ001  # wall time
    cron.run()
    assert (cron.sent, cron.asked) == ([], ["news 2026-11-20 09:00"])
    copy = campaigns.get(cron.db, "news 2026-11-20 09:00")
    assert (copy.status, copy.resume_at) == ("paused", None)
    cron.set(datetime(2026, 11, 21, 9, 0))  # noqa: DTZ001  # wall time
    cron.run()
    assert cron.sent == ["news 2026-11-21 09:00"]


def test_a_rule_that_ends_leaves_a_draft(cron: Cron, make: Make) -> None:
    pattern = recurring(cron, make, "FREQ=DAILY;COUNT=2")
    cron.run()
    cron.clock.advance(DAY)
    cron.run()
    cron.clock.advance(DAY)
    cron.run()
    assert len(cron.sent) == 2
    now = make.look(pattern)
    assert (now.status, now.scheduled_at, now.repeat) == ("draft", None, None)
    assert now.reason is not None
    assert now.reason.startswith("its last occurrence was 2026-11-06")


def test_two_processes_fire_an_occurrence_once(cron: Cron, make: Make, db_path: Path) -> None:
    from wabcast.store.database import connect

    recurring(cron, make, "cron:* * * * *")
    other = connect(db_path)
    for _ in range(5):
        cron.clock.advance(MINUTE)
        cron.look()
        due.look(other, db_path, clock=cron.clock, home=BERLIN)
    other.close()
    assert len(campaigns.listed(cron.db)) == 1 + 5


def test_a_copy_that_is_there_already_is_not_made_again(cron: Cron, make: Make) -> None:
    pattern = recurring(cron, make, "cron:0 9 * * *")
    make.campaign("news 2026-11-06 09:00", status="completed")
    cron.set(datetime(2026, 11, 6, 9, 0))  # noqa: DTZ001  # wall time
    found = cron.run()
    assert (cron.sent, found.notes) == (
        [],
        ["there is a news 2026-11-06 09:00 already; not made again"],
    )
    assert make.look(pattern).scheduled_at == "2026-11-07T08:00:00.000Z"


def test_a_clock_that_was_years_ahead_does_not_stall_a_recurrence(cron: Cron, make: Make) -> None:
    pattern = recurring(cron, make, "cron:0 9 * * *")
    cron.set(datetime(2030, 1, 1, 9, 0))  # noqa: DTZ001  # wall time
    cron.run()
    cron.set(datetime(2026, 11, 6, 8, 0))  # noqa: DTZ001  # wall time
    cron.run()
    assert make.look(pattern).scheduled_at == "2026-11-06T08:00:00.000Z"
    cron.set(datetime(2026, 11, 6, 9, 0))  # noqa: DTZ001  # wall time
    cron.run()
    assert cron.sent == ["news 2030-01-01 09:00", "news 2026-11-06 09:00"]


def test_a_clock_that_was_set_back_by_hours_fires_nothing_again(cron: Cron, make: Make) -> None:
    recurring(cron, make, "cron:0 * * * *")
    for _ in range(6):
        cron.clock.advance(HOUR)
        cron.run()
    cron.clock.advance(-5 * HOUR)
    for _ in range(5):
        cron.clock.advance(HOUR)
        cron.run()
    assert len(cron.sent) == 6


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("year", [2026, 2028])
def test_a_year_of_nights_at_half_past_two(cron: Cron, make: Make, name: str, year: int) -> None:
    """Both DST nights, 29 February and the 31st: each local day once, by the clock on the wall."""
    zone = ZoneInfo(name)
    first = datetime(year, 1, 1)  # noqa: DTZ001  # wall time
    cron.set(first, zone)
    recurring(cron, make, "cron:30 2 * * *", zone=zone)
    while wall_time(cron.clock.now(), zone).year == year:
        cron.run()
        # By the hour around the nights of change, by the half day elsewhere, never in step.
        cron.clock.advance(47 * MINUTE)
    days = Counter(campaign[-16:-6] for campaign in cron.sent)
    expected = (datetime(year + 1, 1, 1) - first).days  # noqa: DTZ001  # wall time
    assert len(days) == expected
    assert set(days.values()) == {1}
    assert not cron.asked


def test_the_thirty_first_and_the_twenty_ninth_of_february(cron: Cron, make: Make) -> None:
    first = datetime(2027, 1, 31, 9, 0)  # noqa: DTZ001  # wall time
    cron.set(first)
    recurring(cron, make, "FREQ=MONTHLY;BYMONTHDAY=29,31")
    for day in range(450):
        cron.set(first + day * DAY + 5 * MINUTE)
        cron.run()
    days = [name[5:15] for name in cron.sent]
    assert len(days) == len(set(days))
    assert "2028-02-29" in days
    assert "2027-02-29" not in days
    assert "2027-03-31" in days
    assert not [day for day in days if day.endswith("-30")]
    assert {name[-5:] for name in cron.sent} == {"09:00"}


# -- what a person does to one


def test_a_pattern_that_was_paused_waits_again(cron: Cron, make: Make, db_path: Path) -> None:
    pattern = recurring(cron, make, "cron:0 9 * * *")
    control.pause(cron.db, db_path, pattern, clock=cron.clock)
    cron.clock.advance(10 * DAY)
    assert cron.run() == due.Look()
    again = control.wait_again(cron.db, pattern, clock=cron.clock)
    assert again.status is CampaignStatus.SCHEDULED
    assert parse(again.scheduled_at or "") > cron.clock.now()
    with pytest.raises(Refused):
        control.wait_again(cron.db, pattern, clock=cron.clock)


def test_a_time_that_is_over_is_refused_but_for_a_recurrence(cron: Cron, make: Make) -> None:
    campaign = make.campaign()
    with pytest.raises(UsageError, match="in the past"):
        control.schedule(cron.db, campaign, at=cron.clock.now() - DAY, clock=cron.clock)
    assert make.look(campaign).status is CampaignStatus.DRAFT
    start = cron.clock.now() - DAY
    rule = Recurrence.parse("FREQ=WEEKLY", start=start, zone=BERLIN)
    now = control.schedule(cron.db, campaign, at=start, clock=cron.clock, rule=rule)
    assert now.scheduled_at == text(start + 7 * DAY)


def test_an_audience_that_is_gone_pauses_the_pattern(cron: Cron, make: Make) -> None:
    from wabcast.audience import Audience, AudienceKind

    cron.db.execute("insert into segments (name, expression, created_at) values ('s', 'true', '')")
    chosen = Audience(AudienceKind.SEGMENT, segment="s")
    pattern = make.campaign("news", audience=chosen)
    rule = Recurrence.parse("cron:* * * * *", start=cron.clock.now(), zone=BERLIN)
    control.schedule(cron.db, pattern, at=cron.clock.now(), clock=cron.clock, rule=rule)
    cron.db.execute("delete from segments")
    cron.clock.advance(MINUTE)
    found = cron.run()
    assert [campaign.name for campaign, _ in found.refused] == ["news"]
    assert make.look(pattern).status is CampaignStatus.PAUSED
    assert len(campaigns.listed(cron.db)) == 1
    assert cron.run() == due.Look()


def test_a_stored_recurrence_is_read_as_the_same() -> None:
    start = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    for rule in ("cron:0 9 * * 1", "FREQ=MONTHLY;BYDAY=1MO;BYHOUR=9;BYMINUTE=0"):
        parsed = Recurrence.parse(rule, start=start, zone=BERLIN)
        assert Recurrence.load(str(parsed)) == parsed
    for wrong in ("", "cron:0 9 * * 1", "DTSTART;TZID=Mars/Here:20260101T090000 FREQ=DAILY"):
        with pytest.raises(UsageError):
            Recurrence.load(wrong)
