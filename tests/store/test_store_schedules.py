"""What is due, the daily cap, and the guarded steps of a recurrence, on a real file."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from conftest import StillClock
from hypothesis import given
from hypothesis import strategies as st
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import drafts
from wabcast.clock import parse, text
from wabcast.store import accounts, campaigns, ledger, marks, reach, schedules
from wabcast.store.database import immediate
from wabcast.store.marks import Told
from wabcast.store.reach import Cap, Seen

HOUR = timedelta(hours=1)


def plan(db: Connection, statement: str, **given: object) -> str:
    return " ".join(row[3] for row in db.execute("explain query plan " + statement, given))


def test_due_is_by_priority_then_time(db: Connection, make: Make, clock: StillClock) -> None:
    ago = [text(clock.now() - timedelta(minutes=n)) for n in range(4)]
    for name, priority, status, column, at in (
        ("late low", "low", "scheduled", "scheduled_at", ago[3]),
        ("normal", "normal", "scheduled", "scheduled_at", ago[1]),
        ("older normal", "normal", "paused", "resume_at", ago[2]),
        ("high", "high", "scheduled", "scheduled_at", ago[0]),
        ("running", "low", "running", "started_at", ago[0]),
    ):
        made = make.campaign(name, priority=priority, status=status)
        db.execute(f"update campaigns set {column} = ? where number = ?", (at, made.number))  # noqa: S608  # a test's own
    for name, status, column in (
        ("by hand", "paused", "scheduled_at"),
        ("draft", "draft", "scheduled_at"),
        ("done", "completed", "resume_at"),
    ):
        made = make.campaign(name, status=status)
        db.execute(f"update campaigns set {column} = ? where number = ?", (ago[3], made.number))  # noqa: S608  # a test's own
    later = make.campaign("later", status="scheduled")
    db.execute(
        "update campaigns set scheduled_at = ? where number = ?",
        (text(clock.now() + timedelta(seconds=1)), later.number),
    )
    found = [campaign.name for campaign in schedules.due(db, clock.now())]
    assert found == ["high", "older normal", "normal", "late low", "running"]


def test_due_uses_its_index(db: Connection) -> None:
    told = plan(db, schedules.DUE, now="2026", ahead="2026")
    assert "campaigns_due" in told
    assert "SCAN" not in told


def test_an_occurrence_fires_once(db: Connection, make: Make, clock: StillClock) -> None:
    campaign = make.campaign(status="scheduled")
    at = text(clock.now())
    db.execute("update campaigns set scheduled_at = ?", (at,))
    campaign = make.look(campaign)
    now_, following = clock.now(), clock.now() + HOUR
    with immediate(db):
        assert schedules.fired(db, campaign, occurrence=now_, following=following, at=at)
        assert not schedules.fired(db, campaign, occurrence=now_, following=following, at=at)
    now = make.look(campaign)
    assert (now.last_fired_at, now.scheduled_at) == (at, text(clock.now() + HOUR))


def test_a_persons_pause_overrules_a_pause_until_later(
    db: Connection, make: Make, clock: StillClock, db_path: Path
) -> None:
    from wabcast import control

    campaign = make.campaign(status="running", run_id="r")
    with immediate(db):
        campaigns.move(db, campaign, "pause", at=make.at, resume_at=make.at, reason="the window")
    assert control.pause(db, db_path, campaign, clock=clock)
    now = make.look(campaign)
    assert (now.resume_at, now.reason) == (None, "paused by a person")
    assert schedules.due(db, clock.now()) == []
    assert not control.pause(db, db_path, campaign, clock=clock)


def test_a_duplicate_has_no_schedule(db: Connection, make: Make, clock: StillClock) -> None:
    campaign = make.campaign(status="scheduled", not_after=clock.now())
    db.execute("update campaigns set scheduled_at = ?, repeat = 'x', resume_at = ?", ("1", "2"))
    copy = drafts.duplicate(db, make.look(campaign), None, clock)
    assert (copy.scheduled_at, copy.repeat, copy.resume_at, copy.not_after) == (None,) * 4
    assert copy.status == "draft"


# -- the daily cap


def intend(
    db: Connection, make: Make, message: ledger.Due, cap: Cap, seen: Seen | None = None
) -> marks.Intended:
    wanted = [marks.Intent(message, "{}", 0, cap)]
    with immediate(db):
        return marks.intend(db, wanted, campaign=1, run="r", at=make.clock.now(), seen=seen)[0]


def test_a_cap_counts_people_in_a_rolling_day(
    db: Connection, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign(people=4, status="running", run_id="r")
    cap, seen = Cap(campaign.account_id, 2), Seen()
    first, second, third, _ = make.due(campaign)
    began = clock.now()
    assert intend(db, make, first, cap, seen).told is Told.INTENDED
    clock.advance(HOUR)
    assert intend(db, make, second, cap, seen).told is Told.INTENDED
    full = intend(db, make, third, cap, seen)
    assert full.told is Told.CAPPED
    assert full.until == text(began + timedelta(days=1, milliseconds=1))
    # Whoever was reached already is no new person; a restart remembers nothing and counts anew.
    db.execute("update campaign_messages set status = 'pending' where id = ?", (first.id,))
    assert intend(db, make, first, cap, Seen()).told is Told.INTENDED
    clock.advance(parse(full.until) - clock.now())
    assert intend(db, make, third, cap, seen).told is Told.CAPPED  # the first was reached again
    clock.advance(HOUR)
    assert intend(db, make, third, cap, seen).told is Told.INTENDED


def test_who_is_reached_is_noted_without_a_cap_too(
    db: Connection, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign(people=2, status="running", run_id="r")
    first, second = make.due(campaign)
    intend(db, make, first, Cap(campaign.account_id))
    used = accounts.get(db, "shop").first_used_at
    assert used == text(clock.now())
    clock.advance(HOUR)
    assert intend(db, make, second, Cap(campaign.account_id, 1)).told is Told.CAPPED
    intend(db, make, second, Cap(campaign.account_id))
    assert accounts.get(db, "shop").first_used_at == used


@given(
    cap=st.integers(1, 12),
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 30), st.sampled_from([0, 1, 1500, 3e7, 9e7])),
        max_size=80,
    ),
)
def test_no_day_has_more_people_than_the_cap(cap: int, steps: list[tuple[int, int, float]]) -> None:
    """Two processes with memories of their own, on one file, at any pace."""
    db = _memory()
    clock = StillClock()
    seen = (Seen(), Seen())
    reached: list[tuple[int, int]] = []
    for process, contact, millis in steps:
        clock.advance(millis / 1000)
        full = reach.full(db, Cap(1, cap), contact, clock.now(), seen[process])
        day = {c for c, at in reached if at > clock.micros() - 86_400_000_000}
        if full is None:
            reach.note(db, 1, [contact], clock.now())
            reached.append((contact, clock.micros()))
            assert len(day | {contact}) <= cap
        else:
            assert contact not in day
            assert len(day) >= cap
            assert parse(full) > clock.now()
    db.close()


def _memory() -> Connection:
    from pysqlite3 import dbapi2

    db: Connection = dbapi2.connect(":memory:", isolation_level=None)
    db.execute("create table accounts (id integer primary key, first_used_at text)")
    db.execute(
        "create table account_reach (account_id integer, contact_id integer, at text,"
        " primary key (account_id, contact_id)) without rowid"
    )
    db.execute("create index account_reach_at on account_reach (account_id, at)")
    return db


def test_the_room_that_is_waited_for_is_a_tenth_of_the_cap(clock: StillClock) -> None:
    db = _memory()
    for contact in range(100):
        reach.note(db, 1, [contact], clock.now())
        clock.advance(1)
    began = clock.now() - timedelta(seconds=100)
    full = reach.full(db, Cap(1, 100), 1000, clock.now(), Seen())
    assert full == text(began + timedelta(days=1, seconds=9, milliseconds=1))
    lowered = reach.full(db, Cap(1, 40), 1000, clock.now(), Seen())
    assert lowered == text(began + timedelta(days=1, seconds=63, milliseconds=1))
    db.close()


def test_a_cap_of_a_hundred_thousand_costs_little(clock: StillClock) -> None:
    db = _memory()
    at = text(clock.now())
    db.executemany("insert into account_reach values (1, ?, ?)", ((n, at) for n in range(90_000)))
    seen = Seen()
    clock.advance(60)
    began = time.perf_counter()
    for contact in range(100_000, 101_000):
        assert reach.full(db, Cap(1, 100_000), contact, clock.now(), seen) is None
        reach.note(db, 1, [contact], clock.now())
        clock.advance(0.0125)
    # 1,000 at 80/s: seven counts of some 5 ms, not a thousand of them.
    assert time.perf_counter() - began < 1.0
    db.close()


def test_the_marks_of_a_clock_that_was_ahead_count_for_a_day(clock: StillClock) -> None:
    db = _memory()
    reach.note(db, 1, [1], clock.now() + timedelta(days=400))
    assert reach.full(db, Cap(1, 1), 2, clock.now(), Seen())
    reach.mend(db, 1, clock.now())
    clock.advance(timedelta(days=1, seconds=1))
    assert reach.full(db, Cap(1, 1), 2, clock.now(), Seen()) is None
    db.close()


def test_the_cap_reads_its_index(db: Connection) -> None:
    given = {"account": 1, "since": "2026", "before": 3, "at": "2026", "ahead": "2027"}
    for statement in (reach.COUNT, reach.FREES, reach.MEND):
        assert "account_reach_at" in plan(db, statement, **given)
