"""The ledger as a machine: whatever happens in whatever order, what may have left never leaves
again, counters equal rows, and everybody ends in a state with a reason."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import SECOND, Clock, text
from wabcast.delivery import (
    Accepted,
    Deferred,
    Halted,
    Lost,
    MessageStatus,
    Rejected,
    Retry,
    Scope,
    Verdict,
    settle,
)
from wabcast.errors import Refused
from wabcast.ledger import CONTROL, EXPIRE
from wabcast.receipts import Receipt, Ref, Status
from wabcast.store import campaigns, database, decisions, ledger, marks, receipts
from wabcast.store.audits import audit
from wabcast.store.database import immediate
from wabcast.store.ledger import Due
from wabcast.store.marks import Intended, Intent, Kept, Outcome, Told

PEOPLE = 5

STOPPED = (CampaignStatus.PAUSED, CampaignStatus.CANCELLED)

VERDICTS: list[Verdict] = [
    Accepted("taken"),
    Deferred("131016", "busy"),
    Deferred("130429", "too fast", None, Scope.ACCOUNT),
    Deferred("131056", "pair limit", None, Scope.RECIPIENT),
    Rejected("131026", "undeliverable"),
    Rejected("131050", "stopped marketing", opt_out=True),
    Halted("190", "token"),
    Lost("cut"),
]


class Ticking(Clock):
    """Every look is a moment later."""

    def __init__(self) -> None:
        super().__init__(1)
        self._now = 1_800_000_000 * SECOND

    def micros(self) -> int:
        self._now += 1000
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * SECOND)


@dataclass
class Request:
    """A message that may be out: what our side holds, and what the far side made of it."""

    due: Due
    attempt: int
    run: str
    arrived: str | None = None
    """WhatsApp's id, where it got there."""
    told: bool = False


@dataclass
class Truth:
    """What is known of one message, outside of the file."""

    requests: list[Request] = field(default_factory=list)
    may_leave: bool = True


class LedgerMachine(RuleBasedStateMachine):
    """intend · settle · crash · take over · receipt · retry · settle by hand · opt out · pause"""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.db = database.connect(Path(self.folder.name) / "w.db")
        self.db.execute("pragma synchronous = off")  # no power is cut in here
        self.clock = Ticking()
        self.make = Make(self.db, self.clock)
        self.runs = (f"run {number}" for number in itertools.count())
        self.wamids = (f"wamid.{number}" for number in itertools.count())
        self.run = next(self.runs)
        self.campaign = self.make.campaign(people=PEOPLE, status="running", run_id=self.run)
        rows = self.db.execute("select id, contact_id from campaign_messages").fetchall()
        self.truth = {row["id"]: Truth() for row in rows}
        self.contacts = {row["id"]: row["contact_id"] for row in rows}
        self.stopped: set[int] = set()
        self.alive = True

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()

    @property
    def status(self) -> CampaignStatus:
        return self.make.look(self.campaign).status

    def _move(self, verb: str, **more: Any) -> bool:
        with immediate(self.db):
            return campaigns.move(self.db, self.campaign, verb, at=self.make.at, **more)

    def _row(self, number: int) -> Any:
        found = self.db.execute("select * from campaign_messages where id = ?", (number,))
        return found.fetchone()

    def _flying(self) -> list[tuple[int, Request]]:
        return [
            (number, request)
            for number, truth in self.truth.items()
            for request in truth.requests
            if not request.told and request.run == self.run
        ]

    # -- a run

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), arrives=st.booleans(), early=st.booleans())
    def intend(self, data: st.DataObject, *, arrives: bool, early: bool) -> None:
        """Intents that share a commit, for what is due, or (`early`) what is due tomorrow; a
        careless run may name the same one twice."""
        now = self.clock.micros() + (86_400 * SECOND if early else 0)
        owed = ledger.due(self.db, self.campaign.number, now=text(now), after=("", 0), limit=PEOPLE)
        if not owed:
            return
        wanted = data.draw(st.lists(st.sampled_from(owed), min_size=1, max_size=3))
        with immediate(self.db):
            intended = marks.intend(
                self.db,
                [Intent(message, "{}", self.clock.micros()) for message in wanted],
                campaign=self.campaign.number,
                run=self.run,
                at=self.clock.now(),
            )
        for message, one in zip(wanted, intended, strict=True):
            self._intended(message, one, arrives=arrives)

    def _intended(self, message: Due, intended: Intended, *, arrives: bool) -> None:
        truth = self.truth[message.id]
        if message.contact_id in self.stopped:
            assert intended.told is not Told.INTENDED
        if intended.told is not Told.INTENDED:
            return
        assert self.status is CampaignStatus.RUNNING
        assert truth.may_leave, "it may have left, and leaves again"
        refs = {
            request.attempt for request in truth.requests if request.arrived or not request.told
        }
        assert intended.attempt not in refs, "two messages with one ref"
        truth.may_leave = False
        arrived = next(self.wamids) if arrives else None
        truth.requests.append(Request(message, intended.attempt, self.run, arrived))

    @precondition(lambda self: self.alive and self._flying())
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        number, request = data.draw(st.sampled_from(self._flying()))
        lost: list[Verdict] = [Lost("cut")]
        # What arrived is accepted, or we do not hear of it; what did not is refused, or neither.
        possible = [Accepted(request.arrived), *lost] if request.arrived else VERDICTS[1:]
        verdict = data.draw(st.sampled_from(possible))
        request.told = True
        at = self.clock.now()
        settled = settle(request.attempt, verdict, retry=Retry(), chance=0.5)
        before = self._row(number)["status"]
        with immediate(self.db):
            outcome = Outcome(request.due, settled, request.attempt, at)
            marks.record(self.db, [outcome], run=self.run)
        if settled.opt_out:
            self.stopped.add(request.due.contact_id)
        if settled.status is MessageStatus.PENDING and before == "queued":
            self.truth[number].may_leave = True
        now = self._row(number)["status"]
        assert now != "queued"
        if isinstance(verdict, Accepted):
            assert now in ("sent", "delivered", "read", "replied", "failed")

    @precondition(lambda self: self.alive)
    @rule()
    def crash(self) -> None:
        self.alive = False

    @precondition(lambda self: not self.alive and self.status is CampaignStatus.RUNNING)
    @rule()
    def take_over(self) -> None:
        self.run = next(self.runs)
        assert self._move("take over", run=self.run)
        with immediate(self.db):
            ledger.take_over(self.db, self.campaign.number, self.run)
        self.alive = True
        assert self.make.look(self.campaign).queued == 0

    @precondition(lambda self: self.alive and not self._flying())
    @rule()
    def complete(self) -> None:
        now = self.make.look(self.campaign)
        if now.status is CampaignStatus.RUNNING and not now.pending and not now.queued:
            assert self._move("complete", fence=self.run)
            self.alive = False

    # -- others

    @rule()
    def pause(self) -> None:
        self._move("pause", reason="by a person")

    @precondition(lambda self: self.status is CampaignStatus.PAUSED)
    @rule()
    def resume(self) -> None:
        """The lock is free: the old run is over, or dead."""
        for _, request in self._flying():
            request.told = True  # it will never tell
        self.run = next(self.runs)
        assert self._move("resume", run=self.run)
        with immediate(self.db):
            ledger.take_over(self.db, self.campaign.number, self.run)
        self.alive = True

    @rule(data=st.data(), status=st.sampled_from(Status), named=st.booleans())
    def receipt(self, data: st.DataObject, status: Status, *, named: bool) -> None:
        arrived = [
            (number, request)
            for number, truth in self.truth.items()
            for request in truth.requests
            if request.arrived
        ]
        if not arrived:
            return
        number, request = data.draw(st.sampled_from(arrived))
        told = Receipt(
            request.arrived or "",
            status,
            self.clock.now(),
            ref=Ref(self.campaign.id, number, request.attempt) if named else None,
            error=Rejected("131026", "undeliverable") if status is Status.FAILED else None,
        )
        with immediate(self.db):
            receipts.apply(self.db, self.campaign.account_id, [told], at=self.make.at)

    @rule(data=st.data())
    def opt_out(self, data: st.DataObject) -> None:
        contact = data.draw(st.sampled_from(sorted(self.contacts.values())))
        with immediate(self.db):
            ledger.opt_out(self.db, contact, reason="STOP", at=self.make.at)
        self.stopped.add(contact)

    def _nobody_is_at_work(self) -> bool:
        return not self.alive or (self.status in STOPPED and not self._flying())

    @rule()
    def cancel(self) -> None:
        """From any terminal, beside a run that lives, or died."""
        before = self.status
        if before in (CampaignStatus.COMPLETED, CampaignStatus.FAILED):
            with pytest.raises(Refused):
                self.make.cancel(self.campaign)
            return
        assert self.make.cancel(self.campaign) is (before is not CampaignStatus.CANCELLED)
        assert self.make.look(self.campaign).pending == 0

    @rule()
    def bury(self) -> None:
        """Whoever pauses, cancels or settles looks whether a run is at work."""
        queued = self.make.look(self.campaign).queued
        buried = decisions.bury(self.db, self.campaign, lambda _: self.alive)
        assert buried == (0 if self.alive else queued)

    @precondition(lambda self: self._nobody_is_at_work())
    @rule()
    def retry(self) -> None:
        failed = [n for n in self.truth if self._row(n)["status"] == "failed"]
        if self.status is CampaignStatus.CANCELLED:
            with pytest.raises(Refused):
                self.make.retry(self.campaign)
            return
        decided = self.make.retry(self.campaign)
        back = [n for n in failed if self.contacts[n] not in self.stopped]
        assert (decided.changed, decided.left.total()) == (len(back), len(failed) - len(back))
        self._put_back(back)

    @precondition(lambda self: self._nobody_is_at_work())
    @rule(outcome=st.sampled_from(["sent", "failed", "pending"]))
    def settle_by_hand(self, outcome: str) -> None:
        doubtful = [n for n in self.truth if self._row(n)["status"] == "in_doubt"]
        if outcome == "pending" and self.status is CampaignStatus.CANCELLED:
            with pytest.raises(Refused):
                self.make.settle(self.campaign, outcome)
            return
        decided = self.make.settle(self.campaign, outcome)
        if outcome == "pending":
            doubtful = [n for n in doubtful if self.contacts[n] not in self.stopped]
            self._put_back(doubtful)
        assert decided.changed == len(doubtful)

    def _put_back(self, numbers: list[int]) -> None:
        """A person says so."""
        for number in numbers:
            self.truth[number].may_leave = True
        if numbers:
            assert self.status in (CampaignStatus.PAUSED, CampaignStatus.RUNNING)

    @rule(seconds=st.sampled_from([1, 60, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # -- the laws

    @invariant()
    def the_ledger_is_sound(self) -> None:
        if not hasattr(self, "db"):
            return
        assert audit(self.db, self.make.look(self.campaign)) == []

    @invariant()
    def what_may_have_left_never_leaves_again(self) -> None:
        if not hasattr(self, "db"):
            return
        for number, truth in self.truth.items():
            row = self._row(number)
            if row["status"] == "pending":
                assert truth.may_leave, "it is owed again, and may have left"
            if row["status"] == "queued":
                assert any(not each.told or not self.alive for each in truth.requests)

    @invariant()
    def everybody_has_a_state_with_a_reason(self) -> None:
        if not hasattr(self, "db"):
            return
        for number in self.truth:
            row = self._row(number)
            if row["status"] in ("failed", "in_doubt", "skipped"):
                assert row["error_message"]
            if row["whatsapp_message_id"]:
                ids = {request.arrived for request in self.truth[number].requests}
                assert row["whatsapp_message_id"] in ids


LedgerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLedger = LedgerMachine.TestCase


# -- what the statements cost

RUN = "run"
MARKS: dict[str, Any] = dict.fromkeys(
    [
        "campaign",
        "contact",
        "id",
        "at",
        "run",
        "number",
        "now",
        "after_due_at",
        "after_id",
        "limit",
        "content",
        "nameless",
        "slot",
        "message_id",
        "attempt",
        "status",
        "code",
        "reason",
        "give_back",
        "due_at",
        "error_code",
        "fence",
        "account",
        "intents",
        "outcomes",
        "after",
        "most",
        "at_once",
    ],
    1,
) | {
    "ids": "[]",
    "asked": "{}",
    "contacts": "[]",
    "intents": '[[1, "{}"]]',
    "outcomes": '[[1, 1, "x", ""]]',
}
HOT = {
    "due": (ledger.DUE, "campaign_messages_due (campaign_id=? AND due_at=? AND id>?)"),
    "due later": (ledger.DUE_LATER, "campaign_messages_due"),
    "next due": (ledger.NEXT_DUE, "campaign_messages_due"),
    "intend": (marks.INTEND, "INTEGER PRIMARY KEY"),
    "mark slot": (marks.MARK_SLOT, "INTEGER PRIMARY KEY"),
    "holds": (marks.HOLDS, "INTEGER PRIMARY KEY"),
    "barred": (marks.BARRED, "INTEGER PRIMARY KEY"),
    "skip": (ledger.SKIP, "INTEGER PRIMARY KEY"),
    "fail": (ledger.FAIL, "INTEGER PRIMARY KEY"),
    "postpone": (ledger.POSTPONE, "INTEGER PRIMARY KEY"),
    "sent": (marks.SENT, "INTEGER PRIMARY KEY"),
    "not sent": (marks.NOT_SENT, "INTEGER PRIMARY KEY"),
    "take over": (ledger.TAKE_OVER, "campaign_messages_queued"),
    "expire": (EXPIRE, "campaign_messages_due"),
    "control": (CONTROL, "INTEGER PRIMARY KEY"),
    "show": (campaigns.BY_NUMBER, "INTEGER PRIMARY KEY"),
    "settle": (decisions.SETTLE_SENT, "INTEGER PRIMARY KEY"),
    "retry": (decisions.RETRY, "INTEGER PRIMARY KEY"),
    "cancel": (decisions.SKIP_REST, "campaign_messages_due"),
    "failed codes": (decisions.FAILED_CODES, "campaign_messages_failed"),
    "failed": (decisions.FAILED, "campaign_messages_failed (campaign_id=? AND error_code=? AND "),
    "untried": (decisions.UNTRIED, "campaign_messages_skipped"),
    "in doubt": (decisions.IN_DOUBT, "campaign_messages_in_doubt (campaign_id=? AND rowid>?)"),
    "asked": (decisions.FAILED, "f USING INDEX campaign_messages_contact"),
    "of people": (decisions.OF_PEOPLE, "(campaign_id=? AND contact_id=?"),
}


@pytest.mark.parametrize("name", HOT)
def test_what_runs_often_goes_by_an_index(db: Connection, name: str) -> None:
    statement, index = HOT[name]
    plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, MARKS))
    assert index in plan
    assert "SCAN" not in re.sub(r"SCAN \w+ VIRTUAL TABLE", "", plan)  # json_each
    assert "TEMP B-TREE" not in plan or name in ("failed codes", "of people")


# -- single steps


def intend(db: Connection, make: Make, campaign: Campaign, message: Due) -> Intended:
    with immediate(db):
        intents = [Intent(message, "{}", 1)]
        [told] = marks.intend(db, intents, campaign=campaign.number, run=RUN, at=make.clock.now())
        return told


def test_due_reads_everybody_once_by_keyset(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=57, status="running", run_id=RUN)
    after, seen = ("", 0), []
    while page := ledger.due(db, campaign.number, now=make.at, after=after, limit=10):
        seen += [message.id for message in page]
        after = (page[-1].due_at, page[-1].id)
    assert len(seen) == len(set(seen)) == 57
    later = text(make.clock.now() + timedelta(hours=1))
    with immediate(db):
        ledger.postpone(db, seen[0], campaign=campaign.number, run=RUN, due_at=later)
    assert len(make.due(campaign)) == 56
    assert ledger.next_due(db, campaign.number) == make.due(campaign)[0].due_at


@pytest.mark.parametrize("status", [each for each in MessageStatus if each != "pending"])
def test_only_what_is_pending_is_intended(
    db: Connection, make: Make, status: MessageStatus
) -> None:
    campaign = make.campaign(status="running", run_id=RUN)
    number = make.campaign_message(campaign=campaign)
    [message] = make.due(campaign)
    with immediate(db):
        db.execute("update campaign_messages set status = ? where id = ?", (status, number))
    assert intend(db, make, campaign, message).told is Told.GONE


@pytest.mark.parametrize("status", CampaignStatus)
@pytest.mark.parametrize("run", [RUN, "another", None])
def test_only_the_run_that_holds_a_running_campaign_may_intend(
    db: Connection, make: Make, status: CampaignStatus, run: str | None
) -> None:
    campaign = make.campaign(people=1, status=status, run_id=run)
    [message] = make.due(campaign)
    told = intend(db, make, campaign, message).told
    mine = status is CampaignStatus.RUNNING and run == RUN
    assert told is (Told.INTENDED if mine else Told.STOPPED)


def test_an_outcome_of_another_attempt_or_run_is_left_alone(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=1, status="running", run_id=RUN)
    [message] = make.due(campaign)
    assert intend(db, make, campaign, message).attempt == 1
    for attempt, run in ((2, RUN), (0, RUN), (1, "another")):
        for verdict in VERDICTS[:1] + VERDICTS[4:5] + VERDICTS[7:]:
            settled = settle(1, verdict, retry=Retry(), chance=0)
            with immediate(db):
                now = make.clock.now()
                outcome = Outcome(message, settled, attempt, now)
                assert marks.record(db, [outcome], run=run) == [Kept.MOVED_ON]
    assert make.look(campaign).queued == 1


def test_rates_do_not_shrink_as_people_read(db: Connection, make: Make) -> None:
    """The seed counted by current status: who read was no longer delivered, nor sent."""
    campaign = make.campaign(status="running", run_id=RUN)
    for status in ("sent", "delivered", "read", "replied", "failed"):
        make.campaign_message(status, campaign=campaign)
    now = make.look(campaign)
    counted = now.messages_sent, now.messages_delivered, now.messages_read, now.messages_replied
    assert counted == (4, 3, 2, 1)
    told = json.loads(json.dumps(campaigns.as_json(now)))
    assert (told["delivery_rate"], told["read_rate"]) == (75.0, 66.67)
    assert (told["reply_rate"], told["failure_rate"]) == (33.33, 20.0)
