"""The slots of an account: whoever leases them, however late they are used, no window exceeds."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import Make
from pysqlite3 import dbapi2 as sqlite
from pysqlite3.dbapi2 import Connection

from wabcast.clock import SECOND, Clock
from wabcast.pacing import CATCH_UP, LATE, Rate
from wabcast.store import database, slots
from wabcast.store.release_log import ReleaseLog
from wabcast.store.slots import Lease

NOW = 1_800_000_000 * SECOND

TABLE = """
create table accounts (id integer primary key, rate text, own_rate text, quality text,
    next_slot_at integer not null default 0, cooling_since integer not null default 0,
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


class Told(Clock):
    """A clock that says what it was told."""

    at = 0

    def steady(self) -> int:
        return self.at


@dataclass
class Holder:
    """A process, as the gate is one: its slots in turn, each message late by a part of what may
    be. `tries` is when they are let go, if the log of all processes has room."""

    db: Connection
    unlogged: bool = False
    lease: Lease | None = None
    used: int = 0
    free_at: int = NOW
    """When it asks for the next: while one waits for its slot, nobody takes another."""

    def send(self, lateness: float) -> int:
        """Wait for the next slot; when it is to leave."""
        while True:
            if self.lease is None or self.used >= self.lease.count:
                self.lease = slots.lease(self.db, 1, now=self.free_at, unlogged=self.unlogged)
                self.used, self.unlogged = 0, False
            slot = round(self.lease.first + self.used * self.lease.spacing)
            self.used += 1
            if slot >= self.free_at - LATE:
                break
        self.free_at = max(self.free_at, slot)
        return max(self.free_at, slot + round(lateness * LATE))


def through_the_log(tries: list[int], rate: Rate) -> list[int]:
    """When they leave: each at its time, or when the log of all processes has room."""
    left: list[int] = []
    clock = Told()
    with TemporaryDirectory() as folder:
        log = ReleaseLog(Path(folder) / "releases", clock)
        heapify(tries := list(tries))
        while tries:
            clock.at = heappop(tries)
            if again := log.enter(rate):
                heappush(tries, again)
            else:
                left.append(clock.at)
        log.close()
    return left


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
    holders = [Holder(db) for _ in range(3)]
    tries: list[int] = []
    now = NOW
    for chosen, lateness, idle in steps:
        holder = Holder(db) if chosen == 3 else holders[chosen]
        # Time is one: nobody reads the file before what was written into it.
        now += round(idle * SECOND)
        now = holder.free_at = max(holder.free_at, now)
        tries.append(holder.send(lateness))
    left = through_the_log(tries, rate)
    assert len(left) == len(tries)
    assert busiest(left, rate.period) <= rate.count


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("text", "least"),
    [("20/m", 0.97), ("60/s", 0.97), ("80/s", 0.97), ("200/s", 0.97), ("1000/s", 0.99)],
)
def test_processes_that_work_at_once_use_the_rate_and_no_more(
    text: str, least: float, processes: int
) -> None:
    """The one that is free first acts, each message late by up to a fifth of what may be."""
    rate = Rate.parse(text)
    db = an_account(text)
    chance = Clock(processes).random
    holders = [Holder(db) for _ in range(processes)]
    begins, ends = NOW + rate.period, NOW + 6 * rate.period
    tries: list[int] = []
    while (holder := min(holders, key=lambda each: each.free_at)).free_at < ends:
        tries.append(holder.send(chance.random() * 0.2))
    left = through_the_log(tries, rate)
    assert busiest(left, rate.period) <= rate.count
    assert sum(begins <= moment < ends for moment in left) / (5 * rate.count) >= least


def test_whose_log_is_new_leaves_room_for_the_lateness_of_those_before() -> None:
    db = an_account("80/s")
    first = slots.lease(db, 1, now=NOW)
    second = slots.lease(db, 1, now=NOW, unlogged=True)
    assert second.first >= first.first + first.count * first.spacing + LATE - 1
    third = slots.lease(db, 1, now=NOW)
    assert third.first <= second.first + second.count * second.spacing + 1


@pytest.mark.parametrize("text", ["1000/s", "80/s", "20/m"])
def test_a_start_has_nothing_to_catch_up_with(text: str) -> None:
    """Its burst would stay in the window, and come back every second."""
    db = an_account(text)
    assert slots.lease(db, 1, now=NOW).first == NOW
    late = slots.lease(db, 1, now=NOW + 3 * 3600 * SECOND)
    assert late.first == NOW + 3 * 3600 * SECOND


def test_who_fell_behind_catches_up_a_little() -> None:
    db = an_account("1000/s")
    first = slots.lease(db, 1, now=NOW)
    now = round(first.first + first.count * first.spacing) + SECOND // 10
    assert slots.lease(db, 1, now=now).first == now - CATCH_UP


def test_a_provider_has_a_rate_of_its_own_where_the_account_was_given_none() -> None:
    db = an_account(None)
    assert slots.lease(db, 1, now=NOW).count == 0
    assert slots.lease(db, 1, now=NOW, usual=Rate.parse("80/s")).count > 0


@pytest.mark.parametrize("text", ["1000/s", "80/s", "20/m", "1000/h"])
@pytest.mark.parametrize("back", [30, 3600, 86_400])
def test_a_clock_that_was_set_back_does_not_stall_us_for_as_long(text: str, back: int) -> None:
    rate = Rate.parse(text)
    db = an_account(text)
    for _ in range(3):
        slots.lease(db, 1, now=NOW)
    now = NOW - back * SECOND
    lease = slots.lease(db, 1, now=now)
    assert lease.first - now <= rate.period + 30 * rate.spacing + 2 * SECOND


def test_throttling_holds_everybody_back_in_the_file(db: Connection, make: Make) -> None:
    for rate in (None, "80/s"):
        account = make.account(f"shop {rate}".replace("/", " a "), rate=rate).id
        with database.immediate(db):
            slots.hold_back(db, account, now=NOW, until=NOW + 5 * SECOND, reason="130429")
            slots.hold_back(db, account, now=NOW, until=NOW + 2 * SECOND, reason="130429 again")
            for _ in range(2):
                lease = slots.lease(db, account, now=NOW)
                assert lease.first >= NOW + 5 * SECOND
                assert lease.cooling_until == NOW + 5 * SECOND
                assert lease.cooling_reason == "130429 again"
            slots.relieve(db, account)
            assert slots.lease(db, account, now=NOW).cooling_reason is None


@pytest.mark.parametrize("text", ["80/s", "20/m", None])
@pytest.mark.parametrize("back", [30, 3600, 86_400])
def test_a_cool_down_does_not_last_longer_because_the_clock_was_set_back(
    text: str | None, back: int
) -> None:
    db = an_account(text)
    slots.hold_back(db, 1, now=NOW, until=NOW + 8 * SECOND, reason="130429")
    now = NOW - back * SECOND
    for passed in (0, 1, 3):
        lease = slots.lease(db, 1, now=now + passed * SECOND)
        assert lease.cooling_until == now + 8 * SECOND
        assert now + 8 * SECOND <= lease.first
    assert slots.lease(db, 1, now=now + 9 * SECOND).first <= now + 30 * SECOND
    # Nor does one that nobody heard of before the next begins.
    slots.hold_back(db, 1, now=now, until=now + 60 * SECOND, reason="130429")
    slots.hold_back(db, 1, now=now - back * SECOND, until=now, reason="130429")
    assert slots.lease(db, 1, now=now - back * SECOND).cooling_until == now


def test_the_slots_are_read_by_the_key(db: Connection) -> None:
    for statement in (slots.READ, slots.LEASE, slots.HOLD_BACK, slots.COOL_ANEW, slots.RELIEVE):
        wanted = dict.fromkeys(("account", "next", "now", "until", "reason"), 1)
        plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, wanted))
        assert "SEARCH accounts USING INTEGER PRIMARY KEY" in plan
        assert "SCAN" not in plan
