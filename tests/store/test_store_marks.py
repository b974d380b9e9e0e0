"""Many marks in one statement: each is judged as if it had come alone."""

from __future__ import annotations

import json

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.delivery import MessageStatus, Settled
from wabcast.store import marks
from wabcast.store.database import immediate
from wabcast.store.marks import Intent, Outcome, Told

RUN = "run"
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
    assert wrote == [True, False, True, True]
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
