"""The way of a message, from what is due to what became of it: by reckoned time, on a real file."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make import CONTENT, Make
from pysqlite3.dbapi2 import Connection
from travel import InlineRecorder, TravelClock, travel

from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import SECOND, Clock, from_micros, text
from wabcast.delivery import (
    Accepted,
    Deferred,
    Halted,
    Lost,
    MessageStatus,
    Rejected,
    Scope,
    Unsayable,
    Verdict,
)
from wabcast.engine import PAGE, Run
from wabcast.errors import Exit, StoreError
from wabcast.gate import AccountGate, Gate
from wabcast.ledger import SqliteLedger
from wabcast.message import Message
from wabcast.pacing import UNLIMITED, Rate
from wabcast.plan import Ending, Plan
from wabcast.store import campaigns, database, ledger, pieces
from wabcast.store.audits import audit
from wabcast.store.database import immediate
from wabcast.store.ledger import Due
from wabcast.store.release_log import ReleaseLog

Fate = Callable[[str, int], Verdict]
"""What becomes of the so-manieth request (from 1) to a phone."""

SLOW_DOWN = Deferred("130429", "too fast", None, Scope.ACCOUNT)
PAIR = Deferred("131056", "pair limit", None, Scope.RECIPIENT)
BUSY = Deferred("131016", "unavailable", None, Scope.MESSAGE)
GONE = Rejected("131026", "undeliverable")
STOPPED = Rejected("131050", "stopped marketing", opt_out=True)
DEAD = Halted("190", "the token is dead")


def accepted(phone: str, request: int) -> Verdict:
    return Accepted(f"wamid.{phone}.{request}")


class World:
    """A file, its account, and WhatsApp at the end of the wire."""

    def __init__(self, db: Connection, path: Path, *, rate: str | None = None) -> None:
        self.db = db
        self.path = path
        self.clock = TravelClock(overslept=0.0005)
        self.recorder = InlineRecorder(db)
        self.make = Make(db, _StandsStill())
        self.account = self.make.account(rate=rate)
        self.fate: Fate = accepted
        self.latency = 0.05
        self.requests: list[tuple[int, Message, Verdict]] = []
        self._asked = Counter[str]()
        self._gate: AccountGate | None = None
        self.ledgers: list[SqliteLedger] = []

    async def send(self, message: Message) -> Verdict:
        self._asked[message.to] += 1
        verdict = self.fate(message.to, self._asked[message.to])
        self.requests.append((self.clock.steady(), message, verdict))
        await asyncio.sleep(self.latency)
        return verdict

    def gate(self) -> AccountGate:
        if self._gate is None:
            self._gate = AccountGate(
                self.account.id,
                ReleaseLog(self.path.with_name(f"{self.account.id}.releases"), self.clock),
                self.recorder,  # type: ignore[arg-type]  # its promise without its thread
                self.clock,
                usual=UNLIMITED,
            )
        return self._gate

    def campaign(self, people: int = 0, name: str = "spring", **said: Any) -> Campaign:
        said = {"status": "running", "run_id": f"run of {name}"} | said
        return self.make.campaign(name, people=people, **said)

    def run(
        self,
        campaign: Campaign,
        *,
        rate: str = "max",
        concurrency: int = 10,
        say: Callable[[Due], Mapping[str, Any]] = lambda _due: CONTENT,
        **plan: Any,
    ) -> Run:
        store = SqliteLedger(
            campaign,
            campaign.run_id or "",
            self.recorder,  # type: ignore[arg-type]  # its promise without its thread
            self.path,
            self.clock,
        )
        self.ledgers.append(store)
        gate = Gate(
            Rate.parse(rate),
            self.gate(),
            self.clock,
            batch_size=10**6,
            batch_delay=timedelta(0),
            jitter=(0.0, 0.0),
            last_slot_at=0,
            lead=lambda: 0.002,
        )
        return Run(
            Plan(campaign.id, concurrency, cap_account=campaign.account_id, **plan),
            ledger=store,
            gate=gate,
            provider=self,
            say=say,
            clock=self.clock,
        )

    def carry(self, campaign: Campaign, **options: Any) -> Ending:
        async def carried() -> Ending:
            run = self.run(campaign, **options)
            try:
                async with asyncio.timeout(7 * 86_400):
                    return await run.carry()
            finally:
                await self.ledgers.pop().aclose()

        return travel(carried())

    def statuses(self, campaign: Campaign) -> Counter[str]:
        rows = self.db.execute(
            "select status from campaign_messages where campaign_id = ?", (campaign.number,)
        )
        return Counter(row[0] for row in rows)

    def rows(self, campaign: Campaign) -> dict[str, Any]:
        rows = self.db.execute(
            "select m.*, c.phone from campaign_messages m join contacts c on c.id = m.contact_id"
            " where campaign_id = ?",
            (campaign.number,),
        )
        return {row["phone"]: row for row in rows}

    def sound(self, campaign: Campaign) -> Campaign:
        now = self.make.look(campaign)
        assert audit(self.db, now) == []
        return now


class _StandsStill(Clock):
    """For rows that are made before the journey begins."""

    def micros(self) -> int:
        return 1_800_000_000 * SECOND


@pytest.fixture
def world(db: Connection, db_path: Path) -> World:
    return World(db, db_path)


def test_everybody_gets_it_once(world: World) -> None:
    campaign = world.campaign(300)
    assert world.carry(campaign) == Ending(Exit.DONE, CampaignStatus.COMPLETED)
    assert len({message.ref for _, message, _ in world.requests}) == 300
    assert len({message.to for _, message, _ in world.requests}) == len(world.requests) == 300
    now = world.sound(campaign)
    assert now.messages_sent == 300
    assert world.statuses(campaign) == {"sent": 300}
    progress = world.db.execute(
        "select count(*) from events where event = 'campaign:progress'"
    ).fetchone()[0]
    assert progress == 3


def test_a_ref_says_whose_message_it_is(world: World) -> None:
    campaign = world.campaign(1)
    world.carry(campaign)
    row = world.db.execute("select id from campaign_messages").fetchone()
    assert world.requests[0][1].ref == f"wabcast:{campaign.id}:{row[0]}:1"


_ANY = [accepted, SLOW_DOWN, PAIR, BUSY, GONE, STOPPED, DEAD, Lost("cut"), Lost("html", "500")]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(_ANY), min_size=1, max_size=60),
    st.sampled_from(["max", "20/m", "80/s"]),
    st.integers(1, 12),
)
def test_whatever_whatsapp_says_nobody_is_lost_and_nobody_gets_it_twice(
    script: list[Any], rate: str, concurrency: int
) -> None:
    """Request after request is answered from the script, then all are accepted. A run that
    pauses is resumed until it completes."""
    left = iter(script)

    def fate(phone: str, request: int) -> Verdict:
        verdict = next(left, accepted)
        return verdict(phone, request) if callable(verdict) else verdict

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.db"
        db = database.connect(path)
        world = World(db, path, rate=rate)
        world.fate = fate
        campaign = world.campaign(30)
        for number in range(len(script) + 1):
            ending = world.carry(campaign, concurrency=concurrency)
            world.sound(campaign)
            if ending.status is CampaignStatus.COMPLETED:
                break
            assert ending.exit is Exit.STOPPED
            assert ending.reason
            assert world.make.look(campaign).reason == ending.reason
            with immediate(db):
                assert campaigns.move(db, campaign, "resume", at=world.make.at, run=f"run {number}")
            campaign = world.make.look(campaign)
            world._gate = None  # a new process
        assert world.make.look(campaign).status is CampaignStatus.COMPLETED
        _judge(world, campaign)
        db.close()


def _judge(world: World, campaign: Campaign) -> None:
    ends: dict[str, Verdict] = {}
    for _, message, verdict in world.requests:
        before = ends.get(message.to)
        assert before is None or isinstance(before, Deferred | Halted), "sent again"
        ends[message.to] = verdict
    for phone, row in world.rows(campaign).items():
        status = MessageStatus(row["status"])
        match ends.get(phone):
            case Accepted(message_id):
                assert status is MessageStatus.SENT
                assert row["whatsapp_message_id"] == message_id
            case Lost():
                assert status is MessageStatus.IN_DOUBT
            case Rejected() | Deferred():
                assert status is MessageStatus.FAILED
            case ended:
                assert ended is None
                assert status is MessageStatus.SKIPPED
        if status is not MessageStatus.SENT:
            assert row["error_message"]


def test_the_pair_limit_holds_only_that_person(world: World) -> None:
    campaign = world.campaign(100)
    unlucky = sorted(world.rows(campaign))[3]
    world.fate = lambda to, n: PAIR if to == unlucky and n < 3 else accepted(to, n)
    assert world.carry(campaign).exit is Exit.DONE
    at = [moment for moment, message, _ in world.requests if message.to == unlucky]
    gaps = [round((after - before) / SECOND) for before, after in pairwise(at)]
    assert gaps == [1, 4]
    others = [moment for moment, message, _ in world.requests if message.to != unlucky]
    assert max(others) < at[1]


def test_what_passes_is_tried_three_times(world: World) -> None:
    campaign = world.campaign(20)
    unlucky = sorted(world.rows(campaign))[3]
    world.fate = lambda to, n: BUSY if to == unlucky else accepted(to, n)
    assert world.carry(campaign).status is CampaignStatus.COMPLETED
    refs = [message.ref for _, message, _ in world.requests if message.to == unlucky]
    assert len(refs) == len(set(refs)) == 3
    row = world.rows(campaign)[unlucky]
    assert row["status"] == "failed"
    assert "given up after 3 attempts" in row["error_message"]
    world.sound(campaign)


def test_throttling_slows_the_account_and_keeps_the_message(world: World) -> None:
    campaign = world.campaign(100)
    world.fate = lambda to, n: SLOW_DOWN if len(world.requests) < 15 else accepted(to, n)
    assert world.carry(campaign).exit is Exit.DONE
    assert world.statuses(campaign) == {"sent": 100}
    attempts = {row["attempts"] for row in world.rows(campaign).values()}
    assert attempts == {1}, "an attempt that was throttled is given back"
    at = [moment for moment, _, verdict in world.requests if isinstance(verdict, Deferred)]
    assert at[14] - at[0] >= 10 * SECOND, "one probe after another"
    world.sound(campaign)


def test_a_dead_token_pauses_with_the_reason_and_fails_nobody(world: World) -> None:
    campaign, other = world.campaign(100), world.campaign(name="summer")
    world.fate = lambda _to, _n: DEAD

    async def both() -> list[Ending]:
        async with asyncio.TaskGroup() as group:
            runs = [world.run(campaign, rate="50/s"), world.run(other, rate="1/s")]
            tasks = [group.create_task(run.carry()) for run in runs]
        return [task.result() for task in tasks]

    endings = travel(both())
    assert len(world.requests) <= 20
    for each, ending in zip((campaign, other), endings, strict=True):
        now = world.sound(each)
        assert ending.exit is Exit.STOPPED
        assert ending.reason == "190 the token is dead"
        assert now.status is CampaignStatus.PAUSED
        assert now.reason == ending.reason
        assert now.messages_failed == now.in_doubt == 0
        assert now.pending == 100


def test_a_paused_template_stops_one_campaign_only(world: World) -> None:
    campaign, other = world.campaign(40), world.campaign(name="summer")
    worse = Halted("132015", "the template is paused", Scope.CAMPAIGN)

    async def send(message: Message) -> Verdict:
        world.requests.append((0, message, worse))
        return worse if campaign.id in message.ref else accepted(message.to, len(world.requests))

    world.send = send  # type: ignore[method-assign]  # this WhatsApp has two faces

    async def both() -> list[Ending]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(world.run(each).carry()) for each in (campaign, other)]
        return [task.result() for task in tasks]

    ending, fine = travel(both())
    assert (ending.exit, fine.exit) == (Exit.STOPPED, Exit.DONE)
    assert "132015" in (ending.reason or "")


def test_twenty_failures_in_a_row_pause_it(world: World) -> None:
    campaign = world.campaign(100)
    world.fate = lambda _to, _n: Rejected("131009", "bad value", Scope.MESSAGE)
    ending = world.carry(campaign)
    assert ending.exit is Exit.STOPPED
    assert "20 failures in a row" in (ending.reason or "")
    assert len(world.requests) < 20 + 10
    assert world.sound(campaign).pending > 70


# -- what others want


def test_a_pause_is_noticed_within_a_second(world: World) -> None:
    campaign = world.campaign(500)
    world.latency = 0.3

    async def paused() -> tuple[Ending, int]:
        carrying = asyncio.create_task(world.run(campaign, rate="50/s").carry())
        await asyncio.sleep(3)
        with immediate(world.db):
            campaigns.move(world.db, campaign, "pause", at=world.make.at, reason="by a person")
        seen = len(world.requests)
        began = world.clock.steady()
        ending = await carrying
        assert world.clock.steady() - began < SECOND
        return ending, seen

    ending, seen = travel(paused())
    assert ending == Ending(Exit.STOPPED, CampaignStatus.PAUSED, "by a person")
    assert len(world.requests) - seen <= 1, "an intent names the state it expects"
    now = world.sound(campaign)
    assert now.queued == 0
    assert now.messages_sent == len(world.requests)


def test_what_is_on_the_wire_when_it_stops_is_recorded(world: World) -> None:
    campaign = world.campaign(500)
    world.latency = 5.0

    async def stopped() -> Ending:
        run = world.run(campaign)
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(1)
        assert len(world.requests) == 10
        run.stop("interrupted (SIGINT)")
        return await carrying

    assert travel(stopped()) == Ending(Exit.STOPPED, CampaignStatus.PAUSED, "interrupted (SIGINT)")
    assert len(world.requests) == 10
    assert world.statuses(campaign) == {"sent": 10, "pending": 490}
    world.sound(campaign)


@pytest.mark.parametrize("moment", [0.0, 0.0005, 0.001, 0.01, 0.0499, 0.05, 0.0501, 0.5, 2.0, 9.0])
@pytest.mark.parametrize("rate", ["max", "1/s", "30/m", "80/s"])
def test_a_stop_at_any_moment_ends_soon_and_leaves_the_ledger_sound(
    world: World, moment: float, rate: str
) -> None:
    campaign = world.campaign(300)

    async def stopped() -> Ending:
        run = world.run(campaign, rate=rate)
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(moment)
        run.stop("enough")
        async with asyncio.timeout(5):
            return await carrying

    ending = travel(stopped())
    now = world.sound(campaign)
    assert now.status is ending.status
    through = len(world.requests) == 300
    assert now.status is (CampaignStatus.COMPLETED if through else CampaignStatus.PAUSED)
    assert now.messages_sent == len(world.requests)
    assert now.queued == 0


def test_an_opt_out_in_the_middle_holds(world: World) -> None:
    campaign = world.campaign(60)

    async def opted_out() -> set[str]:
        carrying = asyncio.create_task(world.run(campaign, rate="10/s").carry())
        await asyncio.sleep(2)
        gone = set(world.rows(campaign)) - {message.to for _, message, _ in world.requests}
        with immediate(world.db):
            for row in world.db.execute("select id, phone from contacts").fetchall():
                if row["phone"] in gone:
                    ledger.opt_out(world.db, row["id"], reason="STOP", at=world.make.at)
        await carrying
        return gone

    gone = travel(opted_out())
    assert len(gone) >= 30
    assert not gone & {message.to for _, message, _ in world.requests}
    assert world.sound(campaign).skipped == len(gone)
    reasons = {row["error_message"] for row in world.rows(campaign).values()}
    assert reasons == {None, "opted out"}


def test_a_number_corrected_in_the_middle_holds(world: World) -> None:
    """Also for those who were read ahead: each goes once, to where the file says by then."""
    campaign = world.campaign(60)
    correct = "update contacts set phone = '+33' || substr(phone, 4) where id = ?"

    async def corrected() -> set[str]:
        carrying = asyncio.create_task(world.run(campaign, rate="10/s").carry())
        await asyncio.sleep(2)
        before = set(world.rows(campaign)) - {message.to for _, message, _ in world.requests}
        with immediate(world.db):
            for row in world.db.execute("select id, phone from contacts").fetchall():
                if row["phone"] in before:
                    world.db.execute(correct, (row["id"],))
        await carrying
        return before

    wrong = travel(corrected())
    sent = [message.to for _, message, _ in world.requests]
    assert len(wrong) >= 30
    # Whose intent was on disk at that moment may still leave.
    assert len(wrong & set(sent)) <= 1
    assert len(set(sent)) == len(sent) == 60
    assert sum(number.startswith("+33") for number in sent) >= len(wrong) - 1
    assert world.sound(campaign).messages_sent == 60


def test_stopped_marketing_opts_the_person_out(world: World) -> None:
    campaign = world.campaign(10)
    stop = sorted(world.rows(campaign))[0]
    world.fate = lambda to, n: STOPPED if to == stop else accepted(to, n)
    world.carry(campaign)
    assert world.rows(campaign)[stop]["status"] == "failed"
    told = world.db.execute("select phone from contacts where opted_out_at is not null").fetchall()
    assert [row[0] for row in told] == [stop]


def test_nothing_leaves_after_not_after(world: World) -> None:
    campaign = world.campaign(500)
    limit = world.make.clock.now() + timedelta(seconds=1000 + 60)
    assert world.carry(campaign, rate="60/m", not_after=limit).exit is Exit.DONE
    assert 55 <= len(world.requests) <= 61
    now = world.sound(campaign)
    assert now.skipped == 500 - len(world.requests)


def test_nothing_leaves_outside_the_window(world: World) -> None:
    """Open for ten minutes, closed for fifty."""
    campaign = world.campaign(900)

    def quiet(_message: Due | None, now: Any) -> timedelta:
        into = timedelta(minutes=now.minute, seconds=now.second, microseconds=now.microsecond)
        return max(timedelta(hours=1) - into, timedelta(0)) if into.seconds >= 600 else timedelta(0)

    assert world.carry(campaign, rate="60/m", quiet=quiet).exit is Exit.DONE
    began = 1_800_000_000 * SECOND
    assert {from_micros(began + at).minute for at, _, _ in world.requests} <= {*range(10)}
    assert len(world.requests) == 900


def test_what_cannot_be_said_is_told_and_not_sent(world: World) -> None:
    campaign = world.campaign(30)
    lacking = sorted(world.rows(campaign))[:10]

    def say(due: Due) -> Mapping[str, Any]:
        if due.phone in lacking:
            raise Unsayable("missing", "no value for firstName", skip=due.phone in lacking[:5])
        return CONTENT

    world.carry(campaign, say=say)
    assert world.statuses(campaign) == {"sent": 20, "skipped": 5, "failed": 5}
    world.sound(campaign)


def test_a_cancellation_of_somebody_elses_is_not_swallowed(world: World) -> None:
    """Those who wait for their turn or for work end with the run, whatever else is asked."""
    campaign = world.campaign(20)

    async def cancelled(moment: float, *, stopped: bool) -> None:
        run = world.run(campaign, rate="1/m")
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(moment)
        if stopped:
            run.stop("enough")  # the run gives up these waits itself, at the same moment
        carrying.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait([carrying])
        assert carrying.cancelled()

    for moment in (0.0, 0.01, 1.0):
        for stopped in (False, True):
            travel(cancelled(moment, stopped=stopped))


# -- between the intent and the request


async def _between(world: World, campaign: Campaign, change: Callable[[], None]) -> Ending:
    """Two seconds pass from the intents on until the loop hears of them, as when the process was
    stopped; meanwhile somebody does something."""
    world.recorder.takes = 2.0
    carrying = asyncio.create_task(world.run(campaign, concurrency=5).carry())
    await asyncio.sleep(3)
    assert world.statuses(campaign)["queued"] == 5
    assert not world.requests
    with immediate(world.db):
        change()
    world.recorder.takes = 0.002
    try:
        return await carrying
    finally:
        await world.ledgers.pop().aclose()


def test_an_opt_out_between_intent_and_request_holds(world: World) -> None:
    campaign = world.campaign(20)

    def opt_out() -> None:
        for row in world.db.execute("select id from contacts").fetchall():
            ledger.opt_out(world.db, row["id"], reason="STOP", at=world.make.at)

    assert travel(_between(world, campaign, opt_out)).exit is Exit.DONE
    assert not world.requests
    assert world.statuses(campaign) == {"skipped": 20}
    assert {row["attempts"] for row in world.rows(campaign).values()} == {0}
    world.sound(campaign)


def test_a_pause_between_intent_and_request_holds(world: World) -> None:
    campaign = world.campaign(20)

    def pause() -> None:
        campaigns.move(world.db, campaign, "pause", at=world.make.at, reason="by a person")

    assert travel(_between(world, campaign, pause)).reason == "by a person"
    assert not world.requests
    assert world.statuses(campaign) == {"pending": 20}
    assert {row["attempts"] for row in world.rows(campaign).values()} == {0}
    assert {row["content"] for row in world.rows(campaign).values()} != {None}
    world.sound(campaign)


def test_a_number_corrected_between_intent_and_request_holds(world: World) -> None:
    campaign = world.campaign(20)

    def correct() -> None:
        world.db.execute("update contacts set phone = '+33' || substr(phone, 4)")

    assert travel(_between(world, campaign, correct)).exit is Exit.DONE
    assert sorted(message.to for _, message, _ in world.requests) == sorted(world.rows(campaign))
    assert len(world.requests) == 20


def test_the_hours_that_end_between_intent_and_request_hold(world: World) -> None:
    campaign = world.campaign(5)
    opens = 3600.0

    def quiet(_due: Due | None, _now: Any) -> timedelta:
        at = world.clock.steady() / SECOND - 1000
        return timedelta(seconds=opens - at) if 1 < at < opens else timedelta(0)

    async def slept() -> None:
        world.recorder.takes = 2.0
        carrying = asyncio.create_task(world.run(campaign, quiet=quiet).carry())
        await asyncio.sleep(1)
        world.recorder.takes = 0.002
        await carrying

    travel(slept())
    assert len(world.requests) == 5
    assert min(at for at, _, _ in world.requests) >= (1000 + opens) * SECOND


def test_time_that_passes_and_brings_nothing_puts_nothing_back(world: World) -> None:
    """A disk that takes two seconds for each commit: slow, but everybody gets it at once."""
    campaign = world.campaign(20)
    world.recorder.takes = 2.0
    for rate, account in (("max", "shop"), ("2/s", "shop"), ("20/m", "shop"), ("max", "80/s")):
        if account != "shop":
            world.account, world._gate = world.make.account("paced", rate=account), None
        campaign = world.campaign(name=f"{rate} {account}", account=world.account.name)
        assert world.carry(campaign, rate=rate).exit is Exit.DONE
        assert {row["attempts"] for row in world.rows(campaign).values()} == {1}
        assert world.statuses(campaign) == {"sent": 20}


@pytest.mark.parametrize("back", [-3600, 40, 3600])
def test_a_clock_that_is_set_holds_nothing_that_is_queued(world: World, back: int) -> None:
    """Nor does it leave after an opt-out that came meanwhile, nor keep a signal from ending it."""
    world.account = world.make.account("paced", rate="10/s")
    campaign = world.campaign(60, account="paced")

    async def set_back() -> set[str]:
        run = world.run(campaign)
        carrying = asyncio.create_task(run.carry())
        await asyncio.sleep(2)
        world.clock.set_back = back * SECOND
        gone = set(world.rows(campaign)) - {message.to for _, message, _ in world.requests}
        with immediate(world.db):
            for row in world.db.execute("select id, phone from contacts").fetchall():
                if row["phone"] in gone:
                    ledger.opt_out(world.db, row["id"], reason="STOP", at=world.make.at)
        before = len(world.requests)
        await asyncio.sleep(0.2)
        late = len(world.requests) - before
        assert late <= 1, "whose intent was on disk may leave within its slot's lead"
        run.stop("interrupted (SIGINT)")
        async with asyncio.timeout(2):
            await carrying
        return gone

    gone = travel(set_back())
    assert len(gone) >= 30
    assert len(gone & {message.to for _, message, _ in world.requests}) <= 1
    assert world.make.look(campaign).queued == 0


@pytest.mark.parametrize("back", [30, 3600, 86_400])
@pytest.mark.parametrize("while_it_waits", [True, False])
def test_a_clock_set_back_does_not_hold_up_who_was_deferred(
    world: World, monkeypatch: pytest.MonkeyPatch, back: int, while_it_waits: bool
) -> None:
    """Tried again after as long as it was to take, whatever the clock says by then."""
    monkeypatch.setattr(pieces, "MOST", 3)  # in several
    campaign = world.campaign(10)
    world.fate = lambda to, n: PAIR if n <= 2 else accepted(to, n)  # after 1 s, then 4

    async def carried() -> None:
        carrying = asyncio.create_task(world.run(campaign, attended=False).carry())
        await asyncio.sleep(0.5 if while_it_waits else 0.02)
        world.clock.set_back = back * SECOND
        async with asyncio.timeout(20):
            assert (await carrying).exit is Exit.DONE

    travel(carried())
    for phone in world.rows(campaign):
        at = [moment for moment, message, _ in world.requests if message.to == phone]
        gaps = [round((after - before) / SECOND) for before, after in pairwise(at)]
        assert gaps == [1, 4], phone


# -- the file says no


def test_a_page_that_cannot_be_read_lets_the_wire_end_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One I/O error of the feed is no reason to put ten answered requests in doubt."""
    campaign = world.campaign(2 * PAGE + 50)
    world.latency = 5.0
    broken = database.OperationalError("disk I/O error")
    read = ledger.due

    def due(db: Connection, number: int, **wanted: Any) -> list[Due]:
        if len(world.requests) > 60:
            raise broken
        return read(db, number, **wanted)

    monkeypatch.setattr(ledger, "due", due)
    with pytest.raises(database.OperationalError) as raised:
        world.carry(campaign, concurrency=60)
    assert raised.value is broken
    assert 60 < len(world.requests) <= 2 * PAGE
    assert world.statuses(campaign)["sent"] == len(world.requests)
    assert world.make.look(campaign).queued == 0


def test_a_bug_in_one_message_lets_the_wire_end_well(world: World) -> None:
    campaign = world.campaign(40)
    world.latency = 5.0
    unlucky = sorted(world.rows(campaign))[20]

    def say(due: Due) -> Mapping[str, Any]:
        if due.phone == unlucky:
            raise ZeroDivisionError
        return CONTENT

    with pytest.raises(ZeroDivisionError):
        world.carry(campaign, say=say)
    assert len(world.requests) == 20
    assert world.statuses(campaign) == {"sent": 20, "pending": 20}


def test_a_full_disk_lets_nothing_leave_and_nothing_hang(world: World) -> None:
    """Slow enough that later messages wait for the place of those whose intent was refused."""
    for rate in ("1/s", "20/s", "200/s"):
        campaign = world.campaign(0 if rate != "1/s" else 500, name=f"at {rate}")

        async def full(campaign: Campaign = campaign, rate: str = rate) -> int:
            run = world.run(campaign, rate=rate)
            carrying = asyncio.create_task(run.carry())
            await asyncio.sleep(1.5)
            world.recorder.broken = StoreError("the database cannot be written: full")
            await asyncio.sleep(0.01)
            seen = len(world.requests)
            with pytest.raises(StoreError):
                async with asyncio.timeout(60):
                    await carrying
            world.recorder.broken = None
            return seen

        assert travel(full()) == len(world.requests)


def test_a_refused_intent_leaves_no_place_in_the_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One campaign's intent is refused; another on the account does not wait for it for ever."""
    world = World(world.db, world.path)
    world.account = world.make.account("slow", rate="2/s")
    campaign = world.campaign(5, account="slow")
    other = world.campaign(name="summer", account="slow")

    async def both() -> Ending:
        first = world.run(campaign)

        async def refuse(*_args: Any) -> Any:
            await asyncio.sleep(0.01)
            raise StoreError("the database cannot be written")

        monkeypatch.setattr(first._ledger, "intend", refuse)
        carrying = asyncio.create_task(first.carry())
        second = asyncio.create_task(world.run(other).carry())
        with pytest.raises(StoreError):
            await carrying
        async with asyncio.timeout(60):
            return await second

    assert travel(both()).exit is Exit.DONE


def test_an_outcome_that_cannot_be_written_does_not_keep_the_probe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, other = world.campaign(5), world.campaign(name="summer")

    async def both() -> Ending:
        world.gate().cooldown.strikes = 1
        first = world.run(campaign, concurrency=1)

        async def refuse() -> None:
            await asyncio.sleep(0.01)
            raise StoreError("the database cannot be written")

        monkeypatch.setattr(first._ledger, "record", lambda *_args: asyncio.ensure_future(refuse()))
        carrying = asyncio.create_task(first.carry())
        second = asyncio.create_task(world.run(other).carry())
        with pytest.raises(StoreError):
            await carrying
        async with asyncio.timeout(60):
            return await second

    assert travel(both()).exit is Exit.DONE


def test_who_waits_for_the_daily_cap_bars_nobody(world: World) -> None:
    """Two may go now, six when yesterday's are a day old; they hold no place at the gate."""
    world.account = world.make.account("capped", rate="2/s", daily_cap=8)
    world.campaign(6, name="yesterday", account="capped")
    at = text(world.make.clock.now() - timedelta(days=1) + timedelta(seconds=1100))
    with immediate(world.db):
        world.db.execute(
            "insert into account_reach select ?, id, ? from contacts", (world.account.id, at)
        )
        world.db.execute("update contacts set blocked_at = ''")
    campaign = world.campaign(8, account="capped")
    assert world.carry(campaign, concurrency=5).exit is Exit.DONE
    seconds = sorted(moment / SECOND for moment, _, _ in world.requests)
    assert len(seconds) == 8
    assert seconds[1] < 1005
    assert seconds[2] >= 1100
    assert seconds[7] < 1110


def test_unattended_it_does_not_sit_through_the_cap(world: World) -> None:
    world.account = world.make.account("capped", daily_cap=8)
    campaign = world.campaign(30, account="capped")
    ending = world.carry(campaign, attended=False)
    assert ending.exit is Exit.STOPPED
    assert "daily cap of 8" in (ending.reason or "")
    assert len(world.requests) == 8
    assert world.make.look(campaign).resume_at


@pytest.mark.parametrize("latency", [0.0, 0.2])
def test_a_provider_that_gives_every_message_the_same_id_trips_the_breaker(
    db: Connection, db_path: Path, latency: float
) -> None:
    """Such an acceptance proves nothing: all but the first are in doubt, and it stops."""
    world = World(db, db_path)
    world.fate = lambda _phone, _request: Accepted("ok")
    world.latency = latency
    campaign = world.campaign(people=100)
    ending = world.carry(campaign)
    assert ending.exit is Exit.STOPPED
    assert "20 failures in a row: same_id" in str(ending.reason)
    now = world.make.look(campaign)
    assert (now.status, now.messages_sent) == (CampaignStatus.PAUSED, 1)
    assert 20 <= now.in_doubt < 60
    assert audit(db, now) == []
    assert now.pending == 100 - 1 - now.in_doubt


@pytest.mark.parametrize("verb", ["pause", "cancel"])
@pytest.mark.parametrize("people", [0, 40])
def test_somebody_stops_it_in_the_moment_in_which_it_ends(
    db: Connection, db_path: Path, verb: str, people: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its last look and its own move: it ends as it was told to, and says so."""
    world = World(db, db_path)
    campaign = world.campaign(people=people)
    move = SqliteLedger.move

    async def late(self: SqliteLedger, wanted: str, **more: Any) -> bool:
        with immediate(db):
            assert campaigns.move(db, world.make.look(campaign), verb, at=world.make.at)
        return await move(self, wanted, **more)

    monkeypatch.setattr(SqliteLedger, "move", late)
    world.fate = lambda _phone, _request: Lost("cut")  # where there are people it stops by itself
    ending = world.carry(campaign)
    now = world.make.look(campaign)
    assert now.status == ("paused" if verb == "pause" else "cancelled")
    assert (ending.exit, ending.status) == (Exit.STOPPED, now.status)


def test_a_campaign_that_owes_a_message_is_not_completed(make: Make) -> None:
    for state in ("pending", "queued"):
        campaign = make.campaign(state, status="running", run_id=state)
        make.campaign_message(state, campaign=campaign)
        with immediate(make.db):
            assert not campaigns.move(make.db, campaign, "complete", at=make.at)
