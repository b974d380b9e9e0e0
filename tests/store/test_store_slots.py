"""The slots of an account: whoever leases them, however late they are used, no window exceeds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import Make
from pysqlite3 import dbapi2 as sqlite
from pysqlite3.dbapi2 import Connection

from wabcast.clock import SECOND, Clock
from wabcast.pacing import CATCH_UP, LATE, Log, Rate
from wabcast.store import database, slots
from wabcast.store.slots import Lease

NOW = 1_800_000_000 * SECOND

TABLE = """
create table accounts (id integer primary key, rate text, own_rate text, quality text,
    next_slot_at integer not null default 0,
    slot_holder text, shared_until integer not null default 0,
    cooling_until integer not null default 0, cooling_reason text)
"""


def an_account(rate: str | None) -> Connection:
    """The columns that slots live in, in memory: thousands of examples."""
    db: Connection = sqlite.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite.Row
    db.execute(TABLE)
    db.execute("insert into accounts (id, rate) values (1, ?)", (rate,))
    return db


def busiest(moments: list[int], period: int) -> int:
    moments = sorted(moments)
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


@dataclass
class Holder:
    """A process, as the gate is one: its slots in turn, each a little late, its own log."""

    name: str
    rate: Rate
    log: Log
    lease: Lease | None = None
    used: int = 0
    free_at: int = NOW
    """When it asks for the next: while one waits for its slot, nobody takes another."""
    left: list[int] = field(default_factory=list)

    def send(self, db: Connection, lateness: float) -> None:
        """Wait for the next slot and leave at it, late by a part of what may be."""
        while True:
            if self.lease is None or self.used >= self.lease.count:
                self.lease = slots.lease(db, 1, holder=self.name, now=self.free_at)
                self.used = 0
            slot = round(self.lease.first + self.used * self.lease.spacing)
            self.used += 1
            most = CATCH_UP if self.lease.shared else LATE
            if slot >= self.free_at - most:
                break
        release = self.log.enter()
        room = self.log.room(release)
        assert room is not None
        self.free_at = max(self.free_at, slot)
        at = max(self.free_at, slot + round(lateness * most), room)
        Log.released(release, at)
        self.left.append(at)


@st.composite
def _plays(draw: st.DrawFn) -> tuple[str, list[tuple[int, float, float]]]:
    """A rate, and who sends when: a process, its lateness, and how long it idles before."""
    rate = draw(st.sampled_from(["1/s", "3/s", "20/s", "5/m", "20/m"]))
    periods = Rate.parse(rate).period / SECOND
    steps = st.tuples(
        st.integers(0, 3),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.one_of(st.just(0.0), st.floats(0, 2).map(lambda share: share * periods)),
    )
    return rate, draw(st.lists(steps, min_size=1, max_size=120))


@settings(max_examples=400)
@given(_plays())
def test_no_window_of_all_processes_exceeds_the_rate(
    play: tuple[str, list[tuple[int, float, float]]],
) -> None:
    """Process 3 is always a new one: a restart. Whoever is chosen acts when it is free."""
    text, steps = play
    rate = Rate.parse(text)
    db = an_account(text)
    holders = [Holder(f"p{number}", rate, Log(rate)) for number in range(3)]
    left: list[int] = []
    now = NOW
    for number, (chosen, lateness, idle) in enumerate(steps):
        holder = Holder(f"new{number}", rate, Log(rate)) if chosen == 3 else holders[chosen]
        # Time is one: nobody reads the file before what was written into it.
        now += round(idle * SECOND)
        now = holder.free_at = max(holder.free_at, now)
        holder.send(db, lateness)
        left.append(holder.left[-1])
    assert busiest(left, rate.period) <= rate.count


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("text", ["20/m", "80/s", "200/s"])
def test_processes_that_work_at_once_share_the_rate(text: str, processes: int) -> None:
    """The one that is free first acts, each message as late as it may be."""
    rate = Rate.parse(text)
    db = an_account(text)
    chance = Clock(processes).random
    holders = [Holder(f"p{number}", rate, Log(rate)) for number in range(processes)]
    begins, ends = NOW + rate.period, NOW + 6 * rate.period
    left: list[int] = []
    while (holder := min(holders, key=lambda each: each.free_at)).free_at < ends:
        holder.send(db, chance.random())
        left.append(holder.left[-1])
    assert busiest(left, rate.period) <= rate.count
    # With others each may be late, and the windows leave room for that: 60 ms.
    least = 0.97 if processes == 1 else min(0.97, rate.period / (rate.period + 60_000) - 0.01)
    assert sum(begins <= moment < ends for moment in left) / (5 * rate.count) >= least


@pytest.mark.parametrize(("text", "least"), [("20/m", 0.97), ("80/s", 0.97), ("1000/s", 0.99)])
def test_a_process_alone_uses_its_rate(text: str, least: float) -> None:
    rate = Rate.parse(text)
    db = an_account(text)
    holder = Holder("one", rate, Log(rate))
    while holder.free_at < NOW + 5 * rate.period:
        holder.send(db, 0.02)
    assert busiest(holder.left, rate.period) <= rate.count
    assert len(holder.left) / (5 * rate.count) >= least


def test_a_restart_leaves_room_for_the_lateness_of_the_last_one() -> None:
    db = an_account("80/s")
    first = slots.lease(db, 1, holder="a", now=NOW)
    second = slots.lease(db, 1, holder="b", now=NOW)
    assert not first.shared
    assert second.shared
    assert second.first >= first.first + first.count * first.spacing + LATE - 1
    later = slots.lease(db, 1, holder="b", now=NOW + 10 * SECOND)
    assert not later.shared


@pytest.mark.parametrize("text", ["1000/s", "80/s", "20/m"])
def test_a_start_has_nothing_to_catch_up_with(text: str) -> None:
    """Its burst would stay in the window, and come back every second."""
    db = an_account(text)
    assert slots.lease(db, 1, holder="a", now=NOW).first == NOW
    late = slots.lease(db, 1, holder="a", now=NOW + 3 * 3600 * SECOND)
    assert late.first == NOW + 3 * 3600 * SECOND


def test_who_fell_behind_catches_up_a_little() -> None:
    db = an_account("1000/s")
    first = slots.lease(db, 1, holder="a", now=NOW)
    now = round(first.first + first.count * first.spacing) + SECOND // 10
    assert slots.lease(db, 1, holder="a", now=now).first == now - CATCH_UP


def test_a_provider_has_a_rate_of_its_own_where_the_account_was_given_none() -> None:
    db = an_account(None)
    assert slots.lease(db, 1, holder="a", now=NOW).count == 0
    assert slots.lease(db, 1, holder="a", now=NOW, usual=Rate.parse("80/s")).count > 0


@pytest.mark.parametrize("text", ["1000/s", "80/s", "20/m", "1000/h"])
@pytest.mark.parametrize("back", [30, 3600, 86_400])
def test_a_clock_that_was_set_back_does_not_stall_us_for_as_long(text: str, back: int) -> None:
    rate = Rate.parse(text)
    db = an_account(text)
    for _ in range(3):
        slots.lease(db, 1, holder="a", now=NOW)
    now = NOW - back * SECOND
    lease = slots.lease(db, 1, holder="a", now=now)
    assert lease.first - now <= rate.period + 30 * rate.spacing + 2 * SECOND


def test_throttling_holds_everybody_back_in_the_file(db: Connection, make: Make) -> None:
    for rate in (None, "80/s"):
        account = make.account(f"shop {rate}", rate=rate).id
        with database.immediate(db):
            slots.hold_back(db, account, until=NOW + 5 * SECOND, reason="130429")
            slots.hold_back(db, account, until=NOW + 2 * SECOND, reason="130429 again")
            for holder in "ab":
                lease = slots.lease(db, account, holder=holder, now=NOW)
                assert lease.first >= NOW + 5 * SECOND
                assert lease.cooling_until == NOW + 5 * SECOND
                assert lease.cooling_reason == "130429 again"
            slots.relieve(db, account)
            assert slots.lease(db, account, holder="a", now=NOW).cooling_reason is None


def test_the_slots_are_read_by_the_key(db: Connection) -> None:
    for statement in (slots.READ, slots.LEASE, slots.HOLD_BACK, slots.RELIEVE):
        wanted = dict.fromkeys(("account", "next", "holder", "shared", "until", "reason"), 1)
        plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, wanted))
        assert "SEARCH accounts USING INTEGER PRIMARY KEY" in plan
        assert "SCAN" not in plan
