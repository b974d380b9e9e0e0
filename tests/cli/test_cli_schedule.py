"""Schedules at the command line: what is typed, what is told, what stays as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Ran
from make import Make
from pysqlite3.dbapi2 import Connection

Cli = Callable[..., Ran]


@pytest.fixture
def spring(quick_cli: Cli, make: Make) -> Cli:
    make.campaign(people=2)
    return quick_cli


def row(db: Connection, name: str = "spring") -> dict[str, object]:
    return dict(db.execute("select * from campaigns where name = ?", (name,)).fetchone())


def test_a_time_is_read_in_its_zone(spring: Cli, db: Connection) -> None:
    ran = spring(
        *("campaign", "schedule", "spring", "--at", "2030-07-01 09:00"),
        *("--timezone", "Europe/Berlin", "--json"),
    )
    assert ran.code == 0
    assert ran.json["scheduled_at"] == "2030-07-01T07:00:00.000Z"
    assert ran.json["status"] == "scheduled"
    assert "wabcast run" in ran.stderr
    ran = spring("campaign", "unschedule", "spring", "--json")
    assert (ran.json["status"], ran.json["scheduled_at"]) == ("draft", None)
    assert spring("campaign", "unschedule", "spring").code == 0


def test_a_recurrence_begins_with_its_first_occurrence(spring: Cli, db: Connection) -> None:
    ran = spring(
        *("campaign", "schedule", "spring", "--at", "2030-07-02 09:00"),
        *("--repeat", "cron:0 9 * * 1", "--timezone", "Europe/Berlin", "--json"),
    )
    assert ran.json["scheduled_at"] == "2030-07-08T07:00:00.000Z"  # the Monday after
    assert "first copy of spring" in ran.stderr
    assert row(db)["repeat"] == "DTSTART;TZID=Europe/Berlin:20300702T090000 cron:0 9 * * 1"
    spring("campaign", "unschedule", "spring")
    assert row(db)["repeat"] is None


def test_the_zone_of_a_window_is_not_changed_by_a_schedule(quick_cli: Cli, make: Make) -> None:
    make.campaign(timezone="Asia/Tokyo", windows="09:00-20:00")
    quick_cli("campaign", "schedule", "spring", "--at", "+1h", "--timezone", "Europe/Berlin")
    assert row(make.db)["timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--at", "2020-01-01 09:00"), 2, "in the past"),
        (("--at", "2030-01-01"), 2, "without a time"),
        (("--at", "+1h", "--repeat", "cron:0 9 31 2 *"), 2, "--repeat"),
        (("--at", "+1h", "--repeat", "every monday"), 2, "--repeat"),
        (("--at", "+1h", "--if-missed", "ask"), 2, "--if-missed"),
        (("--at", "+1h", "--timezone", "Europe/Berln"), 2, "Europe/Berlin"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    spring: Cli, db: Connection, options: tuple[str, ...], code: int, told: str
) -> None:
    before = row(db)
    ran = spring("campaign", "schedule", "spring", *options)
    assert ran.code == code
    assert told in ran.stderr
    assert row(db) == before


@pytest.mark.parametrize("option", ["--at", "--not-after"])
def test_create_in_the_past_makes_nothing(
    quick_cli: Cli, make: Make, db: Connection, option: str
) -> None:
    make.account()
    ran = quick_cli(
        *("campaign", "create", "late", "--account", "shop", "--all", "--text", "Hi"),
        *(option, "2020-01-01 09:00"),
    )
    assert ran.code == 2
    assert f"{option} 2020-01-01" in ran.stderr
    assert not db.execute("select 1 from campaigns").fetchall()


def test_edit_takes_no_end_that_is_over(spring: Cli, db: Connection) -> None:
    """A start would skip everybody for good."""
    before = row(db)
    ran = spring("campaign", "edit", "spring", "--not-after", "2020-01-01 09:00")
    assert (ran.code, row(db)) == (2, before)


def test_edit_keeps_the_schedule_and_says_so_and_duplicate_drops_it(
    spring: Cli, db: Connection
) -> None:
    spring("campaign", "schedule", "spring", "--at", "2030-07-01T09:00Z", "--if-missed", "run")
    ran = spring("campaign", "edit", "spring", "--rate", "40/m")
    assert "its schedule stays: 2030-07-01T09:00:00.000Z" in ran.stderr
    assert row(db)["scheduled_at"] == "2030-07-01T09:00:00.000Z"
    ran = spring("campaign", "duplicate", "spring", "--json")
    assert "not copied" in ran.stderr
    assert (ran.json["status"], ran.json["scheduled_at"]) == ("draft", None)


def test_a_recurring_campaign_is_never_sent_itself(spring: Cli, db: Connection) -> None:
    spring("campaign", "schedule", "spring", "--at", "+1h", "--repeat", "cron:0 9 * * *")
    ran = spring("campaign", "start", "--yes", "spring")
    assert ran.code == 5
    assert "duplicate" in ran.stderr
    assert spring("campaign", "pause", "spring").code == 0
    assert row(db)["status"] == "paused"
    ran = spring("campaign", "resume", "--yes", "spring")
    assert ran.code == 0
    assert "waits for its next occurrence" in ran.stderr
    assert row(db)["status"] == "scheduled"
    assert row(db)["messages_sent"] == 0


def test_a_schedule_of_what_has_run_is_refused(quick_cli: Cli, make: Make) -> None:
    make.campaign(status="completed")
    ran = quick_cli("campaign", "schedule", "spring", "--at", "+1h")
    assert ran.code == 5
    assert "completed" in ran.stderr
    assert row(make.db)["scheduled_at"] is None


@pytest.mark.parametrize("ramp", ["50", "50/h", "0/d"])
def test_a_ramp_is_checked(quick_cli: Cli, ramp: str) -> None:
    ran = quick_cli("account", "add", "play", "--provider", "sandbox", "--ramp", ramp)
    assert ran.code == 2
    assert "--ramp" in ran.stderr


def test_a_ramp_is_taken_away(quick_cli: Cli) -> None:
    quick_cli("account", "add", "play", "--provider", "sandbox", "--ramp", "50/d, 100/day")
    assert quick_cli("account", "show", "play", "--json").json["ramp"] == "50/d,100/d"
    assert quick_cli("account", "edit", "play", "--unset", "ramp").code == 0
    assert quick_cli("account", "show", "play", "--json").json["ramp"] is None
