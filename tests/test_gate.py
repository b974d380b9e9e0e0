"""The gates: never over a rate in any window, and the rate is used. Hours pass in a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection
from travel import InlineRecorder, TravelClock, travel

from wabcast.clock import SECOND, text
from wabcast.gate import AccountGate, Gate, Ticket
from wabcast.pacing import UNLIMITED, Rate
from wabcast.store import slots
from wabcast.store.database import immediate
from wabcast.store.release_log import ReleaseLog

ZERO = timedelta(0)


def busiest(moments: list[int], period: int) -> int:
    moments = sorted(moments)
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - period:
            first += 1
        most = max(most, index - first + 1)
    return most


class Road:
    """An account in a file, its gate, and what has left through it."""

    def __init__(
        self,
        db: Connection,
        make: Make,
        *,
        account: str | None = None,
        clock: TravelClock | None = None,
        takes: float = 0.002,
    ) -> None:
        self.db = db
        self.clock = clock or TravelClock(overslept=0.001)
        self.recorder = InlineRecorder(db, takes)
        self.account = make.account(rate=account)
        self.left: list[int] = []
        self.last_slot = 0

    @property
    def log(self) -> Path:
        database = Path(self.db.execute("pragma database_list").fetchone()[2])
        return database.with_name(f"{self.account.id}.releases")

    def account_gate(self) -> AccountGate:
        """A process's: each has the file of the last releases open for itself."""
        recorder = self.recorder
        return AccountGate(
            self.account.id,
            ReleaseLog(self.log, self.clock),
            recorder,  # type: ignore[arg-type]  # its promise without its thread
            self.clock,
            usual=UNLIMITED,
        )

    def gate(
        self,
        rate: str = "max",
        *,
        account: AccountGate | None = None,
        batch_size: int = 100,
        batch_delay: timedelta = ZERO,
        jitter: tuple[float, float] = (0.0, 0.0),
    ) -> Gate:
        return Gate(
            Rate.parse(rate),
            account or self.account_gate(),
            self.clock,
            batch_size=batch_size,
            batch_delay=batch_delay,
            jitter=jitter,
            last_slot_at=self.last_slot,
            lead=lambda: self.recorder.commit_seconds,
        )

    async def drive(
        self,
        gate: Gate,
        seconds: float,
        *,
        workers: int = 10,
        answer: Callable[[], float] = lambda: 0.05,
        stall: Callable[[int], float] = lambda _taken: 0.0,
    ) -> None:
        """Workers as the engine has them: a slot, the intent's commit, the moment, an answer."""
        taken = 0

        async def worker() -> None:
            nonlocal taken
            while True:
                ticket = await gate.take()
                taken += 1
                self.last_slot = max(self.last_slot, ticket.slot)
                await asyncio.sleep(self.recorder.takes + stall(taken))
                self.left.append(await gate.leave(ticket))
                await asyncio.sleep(answer())
                await gate.account.relieved(ticket)

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(worker())

    def use(self, rate: str, seconds: float) -> float:
        """How much of the rate was used from the first release on."""
        return len(self.left) / (Rate.parse(rate).per_second * seconds)


PACES = [("20/m", 1800, 0.97), ("600/m", 180, 0.97), ("80/s", 15, 0.97), ("1/s", 100, 0.97)]
FAST = [("500/s", 4, 0.99), ("1000/s", 3, 0.99)]


@pytest.mark.parametrize(("rate", "seconds", "least"), PACES + FAST)
@pytest.mark.parametrize("where", ["campaign", "account", "both"])
def test_a_window_never_holds_more_and_the_rate_is_used(
    db: Connection, make: Make, where: str, rate: str, seconds: float, least: float
) -> None:
    road = Road(db, make, account=None if where == "campaign" else rate)
    gate = road.gate("max" if where == "account" else rate)
    travel(road.drive(gate, seconds, workers=60))
    assert busiest(road.left, Rate.parse(rate).period) <= Rate.parse(rate).count
    assert road.use(rate, seconds) >= least


def test_the_seeds_defaults(db: Connection, make: Make) -> None:
    """20 a minute, batches of 100, 5 s between them, ten on the wire."""
    road = Road(db, make)
    gate = road.gate("20/m", batch_delay=timedelta(seconds=5))
    travel(road.drive(gate, 3600))
    assert busiest(road.left, 60 * SECOND) <= 20
    assert road.use("20/m", 3600) >= 0.97


def test_there_is_no_burst_at_the_start(db: Connection, make: Make) -> None:
    """aiolimiter's own way with `AsyncLimiter(20, 60)`: forty in the first minute."""
    for rate in ("20/m", "600/m", "80/s", "1000/s"):
        for where in ("campaign", "account"):
            road = Road(db, make)
            if where == "account":
                road.account = make.account(f"shop {rate}".replace("/", " a "), rate=rate)
            gate = road.gate("max" if where == "account" else rate)
            travel(road.drive(gate, 0.5, workers=100))
            assert len(road.left) <= Rate.parse(rate).per_second * 0.5 + 1


def test_batches_have_pauses_between_them(db: Connection, make: Make) -> None:
    road = Road(db, make)
    gate = road.gate("600/m", batch_size=10, batch_delay=timedelta(seconds=5))
    travel(road.drive(gate, 60))
    gaps = [after - before for before, after in pairwise(road.left)]
    assert all(gap >= 5 * SECOND - 20_000 for gap in gaps[9::10])
    assert all(gap < SECOND for index, gap in enumerate(gaps, 1) if index % 10)


def test_jitter_is_a_pause_before_each(db: Connection, make: Make) -> None:
    road = Road(db, make)
    travel(road.drive(road.gate(jitter=(2.0, 6.0)), 600))
    gaps = [after - before for before, after in pairwise(road.left)]
    assert all(2 * SECOND - 20_000 <= gap <= 6 * SECOND + 50_000 for gap in gaps)
    assert max(gaps) - min(gaps) > 2 * SECOND


def test_a_restart_remembers_the_last_slot(db: Connection, make: Make) -> None:
    """Runs that die young and start anew: together never over the rate."""
    for rate, life in (("20/m", 7.0), ("3/s", 0.9), ("80/s", 0.3)):
        for account in (None, rate):
            road = Road(db, make, clock=TravelClock())
            road.account = make.account(f"shop {rate} {account}".replace("/", " a "), rate=account)

            async def lives(road: Road = road, rate: str = rate, life: float = life) -> None:
                for _ in range(40):
                    gate = road.gate(rate, account=road.account_gate())
                    await road.drive(gate, life, answer=lambda: 0.0)

            travel(lives())
            assert len(road.left) >= 40
            assert busiest(road.left, Rate.parse(rate).period) <= Rate.parse(rate).count


@pytest.mark.parametrize("where", ["campaign", "account", "both"])
def test_a_number_of_low_quality_goes_at_half_its_pace(
    db: Connection, make: Make, where: str
) -> None:
    for rate in ("20/s", "1/s"):
        road = Road(db, make)
        road.account = make.account(
            f"shop {rate}".replace("/", " a "), rate=None if where == "campaign" else rate
        )
        db.execute("update accounts set quality = 'YELLOW'")
        travel(road.drive(road.gate("max" if where == "account" else rate), 60))
        assert 0.4 <= road.use(rate, 60) <= 0.51


@pytest.mark.parametrize("quality", ["GREEN", "YELLOW", "RED"])
def test_pauses_and_jitter_are_twice_as_long_then(db: Connection, make: Make, quality: str) -> None:
    for name, how in (
        ("jitter", {"jitter": (1.0, 1.0)}),
        ("batches", {"batch_size": 5, "batch_delay": timedelta(seconds=5)}),
    ):
        road = Road(db, make)
        road.account = make.account(name)
        db.execute("update accounts set quality = ?", (quality,))
        travel(road.drive(road.gate("max", **how), 60))
        wanted = 60 if quality == "GREEN" else 30
        assert wanted <= len(road.left) <= wanted + 5, name


def test_a_number_that_recovers_has_its_pace_back(db: Connection, make: Make) -> None:
    road = Road(db, make)
    db.execute("update accounts set quality = 'RED'")
    slow = 0

    async def both() -> None:
        nonlocal slow
        gate = road.gate("20/s")
        await road.drive(gate, 10)
        slow = len(road.left)
        db.execute("update accounts set quality = 'GREEN'")
        await road.drive(gate, 10)

    travel(both())
    assert slow <= 103
    assert len(road.left) - slow >= 180
    assert busiest(road.left, SECOND) <= 20


def test_two_campaigns_of_a_process_share_the_account(db: Connection, make: Make) -> None:
    road = Road(db, make, account="80/s")
    account = road.account_gate()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(road.drive(road.gate("60/s", account=account), 10))
            group.create_task(road.drive(road.gate("max", account=account), 10))

    travel(both())
    assert busiest(road.left, SECOND) <= 80
    assert road.use("80/s", 10) >= 0.97


def test_two_processes_one_of_them_killed_and_resumed_use_the_rate(
    db: Connection, make: Make
) -> None:
    """What its slots cost that nobody uses, and the room left where they change hands, counted."""
    road = Road(db, make, account="60/s")

    async def resumed() -> None:
        await road.drive(road.gate(account=road.account_gate()), 7)
        await asyncio.sleep(0.7)  # it leaves what it had in hand, and another process begins
        await road.drive(road.gate(account=road.account_gate()), 12.3)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(road.drive(road.gate(account=road.account_gate()), 20))
            group.create_task(resumed())

    travel(both())
    assert busiest(road.left, SECOND) <= 60
    # It was alone for the 0.7 s and knew nothing of who would come.
    assert road.use("60/s", 20) >= 0.97


def test_a_stall_is_not_followed_by_a_clump(db: Connection, make: Make) -> None:
    """A disk that stops for a second and a half, now and then."""
    for rate in ("20/m", "80/s", "500/s"):
        road = Road(db, make)
        road.account = make.account(f"shop {rate}".replace("/", " a "), rate=rate)
        gate = road.gate()
        stall = lambda taken: 1.5 if taken % 37 == 0 else 0.0  # noqa: E731  # a word for it
        travel(road.drive(gate, 20 * 60 / Rate.parse(rate).per_second, stall=stall))
        assert busiest(road.left, Rate.parse(rate).period) <= Rate.parse(rate).count
        tenth = Rate.parse(rate).period // 10
        assert busiest(road.left, tenth) <= Rate.parse(rate).count / 10 * 1.6 + 2


@pytest.mark.parametrize("where", ["campaign", "account"])
def test_who_comes_late_for_a_slot_takes_another(db: Connection, make: Make, where: str) -> None:
    """Thirty whose intents a disk held up for two seconds: they go on one after another."""
    road = Road(db, make, account="80/s" if where == "account" else None)

    async def stalled() -> None:
        gate = road.gate("max" if where == "account" else "80/s")
        tickets = [await gate.take() for _ in range(30)]
        await asyncio.sleep(2)
        async with asyncio.TaskGroup() as group:
            leaving = [group.create_task(gate.leave(ticket)) for ticket in tickets]
        road.left += [task.result() for task in leaving]

    travel(stalled())
    assert len(road.left) == 30
    assert busiest(road.left, SECOND // 10) <= 8 + 5
    assert 0.3 * SECOND < max(road.left) - min(road.left) < 0.6 * SECOND


def test_a_slow_disk_does_not_cost_the_pace(db: Connection, make: Make) -> None:
    for rate, least in (("80/s", 0.97), ("500/s", 0.97)):
        road = Road(db, make, takes=0.02)
        road.account = make.account(f"shop {rate}".replace("/", " a "), rate=rate)
        travel(road.drive(road.gate(rate), 5, workers=100))
        assert busiest(road.left, SECOND) <= Rate.parse(rate).count
        assert road.use(rate, 5) >= least


def test_an_intent_is_at_most_fifty_milliseconds_ahead_of_its_slot(
    db: Connection, make: Make
) -> None:
    road = Road(db, make, account="7/s")
    ahead: list[int] = []

    async def look() -> None:
        gate = road.gate()
        gate._lead = lambda: 0.05  # as long as it is ever held to be
        for _ in range(20):
            ticket = await gate.take()
            ahead.append(ticket.slot - road.clock.micros())
            await gate.leave(ticket)

    travel(look())
    assert SECOND // 25 <= max(ahead) <= SECOND // 20


def test_a_clock_set_back_stalls_nobody(db: Connection, make: Make) -> None:
    road = Road(db, make, account="20/m")

    async def set_back() -> None:
        gate = road.gate("20/m")
        await road.drive(gate, 120)
        road.clock.set_back = 86_400 * SECOND
        await road.drive(gate, 120)
        road.clock.set_back = 2 * 86_400 * SECOND
        await road.drive(road.gate("20/m", account=road.account_gate()), 120)

    travel(set_back())
    assert road.use("20/m", 360) >= 0.9
    assert busiest(road.left, 60 * SECOND) <= 20


@pytest.mark.parametrize("back", [-86_400, -3600, -2, 2, 3600, 86_400])
@pytest.mark.parametrize("where", ["campaign", "account", "both"])
def test_a_clock_that_is_set_neither_holds_nor_hastens_what_is_queued(
    db: Connection, make: Make, where: str, back: int
) -> None:
    """Set between a message's slot and its leaving, and once more while all go on."""
    road = Road(db, make, account=None if where == "campaign" else "20/s")

    async def set_once() -> None:
        gate = road.gate("max" if where == "account" else "20/s")
        for moment in range(60):
            began = road.clock.steady()
            ticket = await gate.take()
            if moment in (20, 40):
                road.clock.set_back += back * SECOND
            left = await gate.leave(ticket)
            assert abs(left - ticket.at) < SECOND // 15
            assert left - began < SECOND, f"message {moment}"
            road.left.append(left)

    travel(set_once())
    assert busiest(road.left, SECOND) <= 20


@pytest.mark.parametrize("back", [-3600, 3600])
def test_a_clock_that_is_set_does_not_change_a_cool_down(
    db: Connection, make: Make, back: int
) -> None:
    for rate in ("80/s", None):
        road = Road(db, make)
        road.account = make.account(f"shop {rate}".replace("/", " a "), rate=rate)

        async def cool(road: Road = road) -> None:
            first, second = road.account_gate(), road.account_gate()
            thrown = await first.take()
            await second.take()
            begun = road.clock.steady()
            await first.throttled(thrown, timedelta(seconds=30), "130429")
            road.clock.set_back += back * SECOND
            await asyncio.sleep(1.1)
            for gate in (first, second):
                ticket = await gate.take()
                if back > 0:
                    assert 29 * SECOND <= ticket.at - begun <= 33 * SECOND
                else:  # what was to end at a time of the wall is over: a probe finds out
                    assert ticket.at - begun <= 33 * SECOND

        travel(cool())


def test_who_would_wait_for_long_after_its_intent_does_not_leave(
    db: Connection, make: Make
) -> None:
    """A late one's next slot is at the end of a cool-down: it is put back, as a kill would put
    it in doubt."""
    road = Road(db, make, account="80/s")

    async def put_back() -> None:
        gate = road.gate()
        ticket, thrown = await gate.take(), await gate.take()
        await gate.account.throttled(thrown, timedelta(seconds=30), "130429")
        await asyncio.sleep(1)
        began = road.clock.steady()
        assert await gate.leave(ticket) == 0
        assert road.clock.steady() - began < SECOND

    travel(put_back())


def test_who_waits_for_its_slot_does_not_leave_once_the_run_stops(
    db: Connection, make: Make
) -> None:
    road = Road(db, make, account="5/m")

    async def stopped() -> None:
        gate, stopping = road.gate(), asyncio.Event()
        ticket = await gate.take()
        await asyncio.sleep(1)  # too late: the next slot is twelve seconds away
        leaving = asyncio.create_task(gate.leave(ticket, stopping))
        await asyncio.sleep(1)
        assert not leaving.done()
        stopping.set()
        async with asyncio.timeout(1):
            assert await leaving == 0

    travel(stopped())


# -- throttling


def test_a_cool_down_holds_everybody_and_one_probe_goes_ahead(db: Connection, make: Make) -> None:
    """The account is throttled for 20 s: who is on the wire finds out, then one at a time."""
    road = Road(db, make, account="80/s")
    tries: list[tuple[float, bool]] = []
    flying = 0
    most_flying: list[int] = []

    async def throttled() -> None:
        nonlocal flying
        gate = road.gate()
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def worker() -> None:
            nonlocal flying
            while True:
                ticket = await gate.take()
                await gate.leave(ticket)
                at = loop.time() - began
                flying += 1
                if gate.account.cooldown.strikes and at > 2:
                    most_flying.append(flying)
                await asyncio.sleep(0.05)
                flying -= 1
                bad = 1 <= at < 21
                tries.append((at, bad))
                if bad:
                    await gate.account.throttled(ticket, ZERO, "130429 too fast")
                else:
                    await gate.account.relieved(ticket)

        with suppress(TimeoutError):
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(worker())

    travel(throttled())
    wasted = [at for at, bad in tries if bad]
    # Ten on the wire, then probes after 1, 2, 4, 8 s. One that had its slot already may be the
    # second strike.
    assert len(wasted) <= 10 + 5
    assert set(most_flying) == {1}
    probes = [at for at in wasted if at > 1.5]
    assert [round(after - before) for before, after in pairwise(probes)] in ([2, 4, 8], [4, 8])
    after = [at for at, bad in tries if not bad and at > 21]
    assert min(after) < 21 + 17
    assert len([at for at in after if at > 35]) > 0.9 * 80 * 5, "afterwards the pace is the pace"


def test_another_process_is_held_back_too(db: Connection, make: Make) -> None:
    for rate in ("80/s", None):
        road = Road(db, make)
        road.account = make.account(f"shop {rate}".replace("/", " a "), rate=rate)

        async def other(road: Road = road) -> None:
            first, second = road.account_gate(), road.account_gate()
            ticket = await first.take()
            ticket.left_at = road.clock.steady()
            await second.take()
            now = road.clock.micros()
            await first.throttled(ticket, timedelta(seconds=30), "130429")
            await asyncio.sleep(1.1)  # an account without a rate looks once a second
            for _ in range(20):
                assert (await second.take()).slot >= now + 30 * SECOND
            assert second.reason == "130429"

        travel(other())


def test_what_was_past_the_gate_does_not_end_a_cool_down(db: Connection, make: Make) -> None:
    """It leaves after the throttling was known, and is accepted: that proves nothing."""
    road = Road(db, make)

    async def ends_nothing() -> None:
        gate = road.gate("80/s")
        thrown, late = await gate.take(), await gate.take()
        await gate.leave(thrown)
        begun = road.clock.micros()
        await gate.account.throttled(thrown, ZERO, "130429")
        await gate.leave(late)
        await gate.account.relieved(late)
        assert gate.account.cooldown.strikes == 1
        probe = await gate.take()
        assert probe.slot >= begun + SECOND
        await gate.leave(probe)
        await gate.account.relieved(probe)
        assert gate.account.calm

    travel(ends_nothing())


def test_a_probe_that_does_not_leave_hands_over(db: Connection, make: Make) -> None:
    road = Road(db, make)

    async def hands_over() -> None:
        account = road.account_gate()
        account.cooldown.strikes = 1
        probe = await account.take()
        waiting = asyncio.create_task(account.take())
        await asyncio.sleep(5)
        assert not waiting.done()
        account.answered(probe)
        await waiting
        assert account.cooldown.strikes == 1

    travel(hands_over())


@pytest.mark.parametrize("rate", ["1/s", "2/s", "20/m"])
def test_a_late_message_and_a_probe_do_not_wait_for_each_other(
    db: Connection, make: Make, rate: str
) -> None:
    """The late one wants a new slot while a probe is out, and the probe wants the late one's
    place in the window."""
    road = Road(db, make, account="80/s")

    async def late() -> None:
        gate = road.gate(rate)
        count = Rate.parse(rate).count
        tickets = [await gate.take() for _ in range(count)]
        # The disk stalls: none of them is out when the account is throttled.
        thrown = Ticket(0, 0, left_at=road.clock.steady())
        await gate.account.throttled(thrown, ZERO, "130429")
        probe = asyncio.create_task(gate.take())
        behind = asyncio.create_task(gate.take())
        await asyncio.sleep(90)
        async with asyncio.timeout(300), asyncio.TaskGroup() as group:
            for ticket in tickets:
                group.create_task(gate.leave(ticket))
            ticket = await probe
            await gate.leave(ticket)
            await gate.account.relieved(ticket)
            await gate.leave(await behind)

    travel(late())


# -- giving up


def test_who_gives_up_bars_nobody(db: Connection, make: Make) -> None:
    road = Road(db, make, account="5/s")

    async def gives_up() -> None:
        gate = road.gate("5/s")
        for number in range(60):
            ticket = await gate.take()
            if number % 2:
                gate.give_up(ticket)
            else:
                road.left.append(await gate.leave(ticket))

    travel(gives_up())
    assert len(road.left) == 30


def test_a_wait_that_is_cancelled_leaves_nothing_behind(db: Connection, make: Make) -> None:
    """Cancelled at every kind of moment: those who come later still have their turn."""
    road = Road(db, make, account="4/s", takes=0.03)

    async def cancelled() -> None:
        gate = road.gate("4/s", jitter=(0.0, 0.3), batch_size=3, batch_delay=timedelta(seconds=1))
        for step in range(120):
            waiting = [asyncio.create_task(gate.take()) for _ in range(3)]
            await asyncio.sleep(0.007 * step)
            for task in waiting:
                task.cancel()
            for ended in await _results(waiting):
                if isinstance(ended, Ticket):
                    gate.give_up(ended)
            async with asyncio.timeout(30):
                road.left.append(await gate.leave(await gate.take()))

    travel(cancelled())
    assert len(road.left) == 120
    assert busiest(road.left, SECOND) <= 4


def test_a_probe_that_is_cancelled_before_it_leaves_hands_over(db: Connection, make: Make) -> None:
    road = Road(db, make, account="20/m")

    async def cancelled() -> None:
        gate = road.gate()
        thrown = Ticket(0, 0, left_at=road.clock.steady())
        await gate.account.throttled(thrown, ZERO, "130429")
        probe = asyncio.create_task(gate.take())
        await asyncio.sleep(0.1)
        probe.cancel()
        await asyncio.wait([probe])
        async with asyncio.timeout(60):
            await gate.leave(await gate.take())

    travel(cancelled())


async def _results(tasks: list[asyncio.Task[Ticket]]) -> list[Ticket | None]:
    await asyncio.wait(tasks)
    return [None if task.cancelled() else task.result() for task in tasks]


# -- what a person is told


@pytest.mark.parametrize(
    ("pause", "said"),
    [(0, "pace 20/m, halved"), (30, "pause between batches, doubled")],
)
def test_it_says_what_low_quality_makes_of_a_wait(
    db: Connection, make: Make, pause: int, said: str
) -> None:
    road = Road(db, make, account="80/s")
    db.execute("update accounts set quality = 'YELLOW'")

    async def says() -> None:
        gate = road.gate("20/m", batch_size=1, batch_delay=timedelta(seconds=pause))
        await gate.leave(await gate.take())
        waiting = asyncio.create_task(gate.take())
        await asyncio.sleep(1)
        assert gate.holding == f"{said}: the number's quality is low"
        gate.give_up(await waiting)

    travel(says())


def test_it_says_what_it_is_waiting_for(db: Connection, make: Make) -> None:
    road = Road(db, make, account="80/s")

    async def says() -> None:
        gate = road.gate("20/m", batch_size=2, batch_delay=timedelta(seconds=30))
        for _ in range(2):
            await gate.leave(await gate.take())
        waiting = asyncio.create_task(gate.take())
        await asyncio.sleep(1)
        assert gate.holding == "pause between batches"
        await gate.leave(await waiting)
        with immediate(db):
            until = road.clock.micros() + 40 * SECOND
            slots.hold_back(
                db, road.account.id, now=road.clock.micros(), until=until, reason="130429 too fast"
            )
        await asyncio.sleep(4)
        waiting = asyncio.create_task(gate.take())
        await asyncio.sleep(5)
        assert gate.holding == f"account cooling down until {text(until)}: 130429 too fast"
        gate.give_up(await waiting)
        assert gate.holding is None

    travel(says())


def test_the_gate_stands_open_only_where_nothing_holds_anybody_back(
    db: Connection, make: Make
) -> None:
    road = Road(db, make)

    async def drive() -> None:
        account = road.account_gate()
        gate = road.gate(account=account)
        assert gate.open() is None  # nobody has asked the file yet
        await gate.take()
        ticket = gate.open()
        assert ticket is not None
        assert ticket.slot == road.clock.micros()
        for other in (
            road.gate("80/s", account=account),
            road.gate(account=account, batch_delay=timedelta(seconds=5)),
            road.gate(account=account, jitter=(0.0, 1.0)),
        ):
            assert other.open() is None
        await asyncio.sleep(1)
        assert gate.open() is None  # another process may have been throttled meanwhile
        ticket = await gate.take()
        assert gate.open()
        await gate.leave(ticket)
        await account.throttled(ticket, ZERO, "130429 too fast")
        assert gate.open() is None
        probe = await gate.take()
        assert gate.open() is None  # its answer is not known yet
        await gate.leave(probe)
        await account.relieved(probe)
        await gate.take()
        assert gate.open()

    travel(drive())


def test_an_account_with_a_rate_is_never_open(db: Connection, make: Make) -> None:
    road = Road(db, make, account="1000/s")

    async def drive() -> None:
        gate = road.gate()
        for _ in range(5):
            await gate.take()
            assert gate.open() is None

    travel(drive())
