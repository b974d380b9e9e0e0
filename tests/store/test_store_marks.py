"""Many marks in one statement: each is judged as if it had come alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.delivery import MessageStatus, Settled
from wabcast.store import marks
from wabcast.store.audits import audit
from wabcast.store.database import immediate
from wabcast.store.ledger import Due
from wabcast.store.marks import Intent, Kept, Outcome, Told
from wabcast.store.reach import Cap

RUN = "run"


def sent(message_id: str) -> Settled:
    return Settled(MessageStatus.SENT, message_id=message_id)


ODD = 'a "quote", \\u0000, \n and 👋'


def test_each_intent_of_a_group_is_judged_by_itself(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=5, status="running", run_id=RUN)
    going, stopped, gone, blocked, last = make.due(campaign)
    with immediate(db):
        db.execute("update contacts set opted_out_at = '1' where id = ?", (stopped.contact_id,))
        db.execute("update contacts set blocked_at = '1' where id = ?", (blocked.contact_id,))
        db.execute("update campaign_messages set status = 'sent' where id = ?", (gone.id,))
        listed = [
            Intent(message, json.dumps({"said": f"{ODD} {message.id}"}), message.id)
            for message in (last, gone, stopped, going, blocked)
        ]
        told = marks.intend(db, listed, campaign=campaign.number, run=RUN, at=make.clock.now())
    assert [(each.told, each.attempt) for each in told] == [
        (Told.INTENDED, 1),
        (Told.GONE, 0),
        (Told.SKIPPED, 0),
        (Told.INTENDED, 1),
        (Told.SKIPPED, 0),
    ]
    rows = {row["id"]: row for row in db.execute("select * from campaign_messages")}
    for message in (going, last):
        assert json.loads(rows[message.id]["content"]) == {"said": f"{ODD} {message.id}"}
        assert rows[message.id]["status"] == "queued"
    assert rows[stopped.id]["error_message"] == "opted out"
    slot = db.execute("select last_slot_at from campaigns").fetchone()[0]
    assert slot == max(going.id, last.id)


def test_who_has_another_number_since_is_left_to_be_read_again(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=2, status="running", run_id=RUN)
    same, moved = make.due(campaign)
    with immediate(db):
        db.execute("update contacts set phone = '+4917100000' where id = ?", (moved.contact_id,))
        listed = [Intent(message, "{}", 1) for message in (same, moved)]
        told = marks.intend(db, listed, campaign=campaign.number, run=RUN, at=make.clock.now())
    assert [each.told for each in told] == [Told.INTENDED, Told.GONE]
    [again] = make.due(campaign)
    assert (again.id, again.phone, again.attempts) == (moved.id, "+4917100000", 0)


def test_an_attempt_counts_from_the_row_and_not_from_what_was_read(
    db: Connection, make: Make
) -> None:
    campaign = make.campaign(people=3, status="running", run_id=RUN)
    first, tried, twice = make.due(campaign)
    with immediate(db):
        db.execute("update campaign_messages set attempts = 2 where id = ?", (tried.id,))
        listed = [Intent(message, "{}", 1) for message in (first, tried, twice, twice)]
        told = marks.intend(db, listed, campaign=campaign.number, run=RUN, at=make.clock.now())
    assert [each.attempt for each in told] == [1, 3, 1, 0]
    assert [each.told is Told.INTENDED for each in told] == [True, True, True, False]
    rows = db.execute("select attempts from campaign_messages order by id").fetchall()
    assert [row[0] for row in rows] == [1, 3, 1]


@pytest.mark.parametrize("status", ["paused", "cancelled"])
def test_a_group_stops_with_its_campaign(db: Connection, make: Make, status: str) -> None:
    campaign = make.campaign(people=3, status=status, run_id=RUN)
    listed = [Intent(message, "{}", 1) for message in make.due(campaign)]
    with immediate(db):
        told = marks.intend(db, listed, campaign=campaign.number, run=RUN, at=make.clock.now())
    assert {each.told for each in told} == {Told.STOPPED}


def test_each_outcome_of_a_group_finds_its_own_row(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=4, status="running", run_id=RUN)
    owed = make.due(campaign)
    now = make.clock.now()
    failed = Settled(MessageStatus.FAILED, error_code="131026", error_message="undeliverable")
    with immediate(db):
        listed = [Intent(message, "{}", 1) for message in owed]
        marks.intend(db, listed, campaign=campaign.number, run=RUN, at=now)
        outcomes = [
            Outcome(owed[0], Settled(MessageStatus.SENT, message_id="wamid.0"), 1, now),
            Outcome(owed[1], Settled(MessageStatus.SENT, message_id="wamid.1"), 2, now),
            Outcome(owed[2], failed, 1, now),
            Outcome(owed[3], Settled(MessageStatus.SENT, message_id="wamid.3"), 1, now),
        ]
        wrote = marks.record(db, outcomes, run=RUN)
    assert wrote == [Kept.WRITTEN, Kept.MOVED_ON, Kept.WRITTEN, Kept.WRITTEN]
    found = db.execute(
        "select status, whatsapp_message_id from campaign_messages order by id"
    ).fetchall()
    assert [tuple(row) for row in found] == [
        ("sent", "wamid.0"),
        ("queued", None),
        ("failed", None),
        ("sent", "wamid.3"),
    ]
    seen = make.look(campaign)
    assert (seen.messages_sent, seen.queued, seen.messages_failed) == (2, 1, 1)


class Counted:
    """A connection that counts what it is asked."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.asked = 0

    def execute(self, statement: str, wanted: object = ()) -> Any:
        self.asked += 1
        return self.db.execute(statement, wanted)


def test_a_group_costs_as_many_statements_as_one_mark(db: Connection, make: Make) -> None:
    """Each one more costs the loop its place; what is told comes in a row, not in many."""
    campaign = make.campaign(people=101, status="running", run_id=RUN)
    alone, *others = make.due(campaign)
    now = make.clock.now()
    cap = Cap(campaign.account_id)

    def cost(messages: list[Due]) -> int:
        counted: Any = Counted(db)
        with immediate(db):
            listed = [Intent(message, "{}", 1, cap) for message in messages]
            told = marks.intend(counted, listed, campaign=campaign.number, run=RUN, at=now)
            outcomes = [
                Outcome(message, sent(f"wamid.{message.id}"), 1, now) for message in messages
            ]
            assert set(marks.record(counted, outcomes, run=RUN)) == {Kept.WRITTEN}
        assert {each.told for each in told} == {Told.INTENDED}
        return int(counted.asked)

    assert cost([alone]) == cost(others) <= 6
    assert db.execute("select messages_sent from campaigns").fetchone()[0] == 101


def test_the_marks_find_their_rows_by_number(db: Connection) -> None:
    named = {"run": RUN, "campaign": 1, "at": "", "ids": "[]", "intents": "{}", "outcomes": "[]"}
    for statement in (marks.GOING, marks.INTEND, marks.SENT, marks.ANSWERED):
        plan = [row[3] for row in db.execute("explain query plan " + statement, named)]
        assert any(step.startswith("SEARCH m USING INTEGER PRIMARY KEY") for step in plan), plan
        assert not any(step.startswith(("SCAN m", "SCAN c")) for step in plan), plan


def test_a_message_id_stands_at_one_row_alone(db: Connection, make: Make) -> None:
    """The answers that have another message's id, in this group or an earlier one, are no proof."""
    campaign = make.campaign(people=5, status="running", run_id=RUN)
    owed = make.due(campaign)
    now = make.clock.now()

    def record(messages: list[Due], *ids: str) -> list[Kept]:
        with immediate(db):
            outcomes = [Outcome(m, sent(wamid), 1, now) for m, wamid in zip(messages, ids)]  # noqa: B905
            return marks.record(db, outcomes, run=RUN)

    with immediate(db):
        listed = [Intent(message, "{}", 1) for message in owed]
        marks.intend(db, listed, campaign=campaign.number, run=RUN, at=now)
    assert record(owed[:3], "a", "b", "a") == [Kept.WRITTEN, Kept.WRITTEN, Kept.SAME_ID]
    assert record(owed[3:], "b", "c") == [Kept.SAME_ID, Kept.WRITTEN]
    assert record(owed[:1], "a") == [Kept.WRITTEN], "told twice"
    rows = db.execute("select status, whatsapp_message_id, error_code from campaign_messages")
    assert [tuple(row) for row in rows] == [
        ("sent", "a", None),
        ("sent", "b", None),
        ("in_doubt", None, "same_id"),
        ("in_doubt", None, "same_id"),
        ("sent", "c", None),
    ]
    assert audit(db, make.look(campaign)) == []
