"""What people decide about messages: piece by piece, and each of them leaves the laws true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from make import Make, nobody
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import text
from wabcast.delivery import Deferred, Halted, Retry, Verdict, settle
from wabcast.errors import Busy, NotFound, Refused
from wabcast.store import campaigns, decisions, marks, pieces
from wabcast.store.audits import audit
from wabcast.store.database import immediate
from wabcast.store.decisions import Chosen
from wabcast.store.marks import Intent, Kept, Outcome

RUN = "run"
PEOPLE = 30


def statuses(db: Connection, campaign: Campaign) -> dict[str, int]:
    rows = db.execute(
        "select status from campaign_messages where campaign_id = ?", (campaign.number,)
    )
    return dict(Counter(row[0] for row in rows))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of ten, one right behind the other."""
    for name, value in (("FIRST", 10), ("LEAST", 10), ("MOST", 10), ("GAP", 0.0)):
        monkeypatch.setattr(pieces, name, value)


def failed(make: Make, campaign: Campaign, people: int = PEOPLE, **columns: Any) -> list[int]:
    told = {"error_code": "131026", "sent_at": make.at, "whatsapp_message_id": None, **columns}
    return [make.campaign_message("failed", campaign=campaign, **told) for _ in range(people)]


def at_each_commit(make: Make, campaign: Campaign) -> tuple[list[Campaign], Callable[[int], None]]:
    """Collects what a person sees between the pieces; the laws hold there."""
    seen: list[Campaign] = []

    def look(_count: int) -> None:
        seen.append(make.look(campaign))
        assert audit(make.db, seen[-1]) == []

    return seen, look


# -- cancel


@pytest.mark.usefixtures("small")
def test_nothing_leaves_from_the_first_commit_of_a_cancel_on(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=PEOPLE, status="running", run_id=RUN)
    message = make.due(campaign)[-1]
    told = []

    def look(_count: int) -> None:
        now = make.look(campaign)
        told.append((now.status, now.pending, now.skipped))
        with immediate(db):
            intents = [Intent(message, "{}", 1)]
            at = make.clock.now()
            [intended] = marks.intend(db, intents, campaign=campaign.number, run=RUN, at=at)
        assert intended.told is marks.Told.STOPPED

    assert make.cancel(campaign, tick=look)
    assert told == [(CampaignStatus.CANCELLED, PEOPLE - n, n) for n in (10, 20, 30, 30)]
    assert audit(db, make.look(campaign)) == []
    assert statuses(db, campaign) == {"skipped": PEOPLE}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("by", ["cancel again", "run"])
def test_a_cancel_that_was_interrupted_is_gone_on_with(db: Connection, make: Make, by: str) -> None:
    class KilledError(Exception): ...

    def killed(_count: int) -> None:
        raise KilledError

    campaign = make.campaign(people=PEOPLE, status="paused")
    with pytest.raises(KilledError):
        make.cancel(campaign, tick=killed)
    [finding] = audit(db, make.look(campaign))
    assert "is cancelled, and 20 are still owed a message; go on: wabcast campaign canc" in finding
    if by == "run":
        decisions.finish_all(db, nobody, clock=make.clock)
    else:
        assert not make.cancel(campaign), "cancelled already"
    assert audit(db, make.look(campaign)) == []
    assert statuses(db, campaign) == {"skipped": PEOPLE}
    told = db.execute("select count(*) from events where event = 'campaign:cancelled'").fetchone()
    assert told[0] == 1


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_is_over_is_not_cancelled(db: Connection, make: Make, status: str) -> None:
    campaign = make.campaign(status=status)
    make.campaign_message("sent", campaign=campaign)
    with pytest.raises(Refused):
        make.cancel(campaign)
    assert make.look(campaign).status == status


def test_a_cancel_may_leave_the_rest_for_later(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "FIRST", 10)
    campaign = make.campaign(people=PEOPLE, status="paused")
    make.cancel(campaign, within=timedelta(0))
    now = make.look(campaign)
    assert (now.status, now.pending) == (CampaignStatus.CANCELLED, PEOPLE - 10)


@pytest.mark.parametrize(
    "verdict", [Deferred("131016", "busy"), Halted("190", "the token is dead")], ids=type
)
@pytest.mark.parametrize("status", ["cancelled", "failed", "paused"])
def test_what_did_not_go_is_not_owed_by_a_campaign_that_is_over(
    db: Connection, make: Make, verdict: Verdict, status: str
) -> None:
    campaign = make.campaign(people=1, status="running", run_id=RUN)
    [message] = make.due(campaign)
    now = make.clock.now()
    with immediate(db):
        [told] = marks.intend(db, [Intent(message, "{}", 1)], campaign=1, run=RUN, at=now)
    db.execute("update campaigns set status = ?", (status,))
    settled = settle(told.attempt, verdict, retry=Retry(), chance=0.5)
    with immediate(db):
        assert marks.record(db, [Outcome(message, settled, told.attempt, now)], run=RUN) == [
            Kept.WRITTEN
        ]
    assert statuses(db, campaign) == {"pending" if status == "paused" else "skipped": 1}
    assert audit(db, make.look(campaign)) == []


# -- a run that died


@pytest.mark.parametrize("status", ["running", "paused", "cancelled"])
def test_what_a_dead_run_left_on_the_wire_is_in_doubt(
    db: Connection, make: Make, status: str
) -> None:
    campaign = make.campaign(status=status, run_id=RUN)
    for _ in range(3):
        make.campaign_message("queued", campaign=campaign)
    assert decisions.bury(db, campaign, lambda _: True) == 0
    assert statuses(db, campaign) == {"queued": 3}
    if status != "running":
        [finding] = audit(db, make.look(campaign), nobody)
        assert finding == f"3 are on the wire of a {status} campaign that no run holds"
    assert decisions.bury(db, campaign, nobody) == 3
    assert statuses(db, campaign) == {"in_doubt": 3}
    assert audit(db, make.look(campaign), nobody) == []
    assert decisions.bury(db, campaign, nobody) == 0


def test_a_process_is_looked_for_under_the_write_lock(db: Connection, make: Make) -> None:
    """Whoever takes a campaign holds it before it writes that: there is no moment between."""
    campaign = make.campaign(status="paused", run_id=RUN)
    make.campaign_message("queued", campaign=campaign)

    def is_held(_campaign: Campaign) -> bool:
        assert db.in_transaction
        return False

    assert decisions.bury(db, campaign, is_held) == 1


def test_every_unfinished_one_is_finished(db: Connection, make: Make) -> None:
    make.campaign(people=2)  # a draft is left alone, and so are the next ones
    running = make.campaign("running", people=1, status="running", run_id=RUN)
    held = make.campaign("held", status="paused", run_id=RUN)
    gone = make.campaign("gone", status="paused", run_id=RUN)
    cancelled = make.campaign("cancelled", people=1, status="cancelled", run_id=RUN)
    broken = make.campaign("failed", people=1, status="failed")
    for campaign in (running, held, gone, cancelled):
        make.campaign_message("queued", campaign=campaign)
    decisions.finish_all(db, lambda campaign: campaign.name == "held", clock=make.clock)
    assert statuses(db, running)["queued"] == 1
    assert statuses(db, held)["queued"] == 1
    assert statuses(db, gone)["in_doubt"] == 1
    assert statuses(db, cancelled)["in_doubt"] == 1
    assert "pending" not in statuses(db, cancelled)
    assert "pending" not in statuses(db, broken)
    for campaign in (held, gone, cancelled, broken):
        assert audit(db, make.look(campaign), lambda campaign: campaign.name == "held") == []


# -- retry


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("status", ["completed", "failed", "paused"])
def test_a_retry_goes_by_pieces_each_sound(db: Connection, make: Make, status: str) -> None:
    campaign = make.campaign(status=status)
    failed(make, campaign)
    seen, look = at_each_commit(make, campaign)
    assert make.retry(campaign, tick=look).changed == PEOPLE
    assert {now.status for now in seen} == {CampaignStatus.PAUSED}
    assert [now.pending for now in seen] == [10, 20, 30, 30]
    row = db.execute("select * from campaign_messages").fetchone()
    assert (row["failed_at"], row["sent_at"], row["whatsapp_message_id"]) == (None, None, None)


@pytest.mark.usefixtures("small")
def test_who_is_left_out_of_a_retry_is_passed_over_once(db: Connection, make: Make) -> None:
    """Twenty-five who must not get it again stand before the others, and between them."""
    campaign = make.campaign(status="completed")
    for number in range(2):
        failed(make, campaign, people=25, error_code=str(number))
        db.execute("update contacts set opted_out_at = '2026' where opted_out_at is null")
        failed(make, campaign, people=12, error_code=str(number))
    looked: list[int] = []
    decided = make.retry(campaign, tick=looked.append)
    assert (decided.changed, decided.left) == (12, Counter({"opted out": 62}))
    assert sum(looked) == 74


def test_a_retry_leaves_out_who_must_not_get_it_again(db: Connection, make: Make) -> None:
    campaign = make.campaign(status="completed")
    other = make.campaign("other", status="completed")
    wanted, out, blocked, gone, tired, elsewhere, rested = failed(make, campaign, people=7)
    day = timedelta(days=1)
    now = make.clock.now()

    def person(message: int) -> int:
        row = db.execute("select contact_id from campaign_messages where id = ?", (message,))
        return int(row.fetchone()[0])

    with immediate(db):
        db.execute("update contacts set opted_out_at = '2026' where id = ?", (person(out),))
        db.execute("update contacts set blocked_at = '2026' where id = ?", (person(blocked),))
        db.execute("delete from contacts where id = ?", (person(gone),))
        for message, failed_at in ((tired, now - day / 2), (rested, now - day)):
            db.execute(
                "update campaign_messages set error_code = '131049', failed_at = ? where id = ?",
                (text(failed_at), message),
            )
    make.campaign_message(
        "failed", campaign=other, contact=person(elsewhere), error_code="131049", failed_at=make.at
    )
    decided = make.retry(campaign, asked={"131049": text(now - day)})
    assert decided.changed == 2
    left = {"opted out": 1, "blocked": 1, "removed": 1}
    assert decided.left == left | {"left alone for now, as WhatsApp asked": 2}
    pending = db.execute("select id from campaign_messages where status = 'pending'").fetchall()
    assert [row[0] for row in pending] == [wanted, rested]
    assert audit(db, make.look(campaign)) == []


def test_a_retry_of_some(db: Connection, make: Make) -> None:
    campaign = make.campaign(status="completed")
    failed(make, campaign, people=3, error_code="1")
    failed(make, campaign, people=3, error_code="2")
    failed(make, campaign, people=1, error_code=None)
    people = {row[0] for row in db.execute("select contact_id from campaign_messages where id < 3")}
    assert make.retry(campaign, Chosen(codes={"none"})).changed == 0
    assert make.look(campaign).status is CampaignStatus.COMPLETED, "nothing was put back"
    assert make.retry(campaign, Chosen(people, {"2"})).changed == 0
    assert make.retry(campaign, Chosen(people)).changed == 2
    assert make.retry(campaign, Chosen(codes={"2", "1"})).changed == 4
    assert make.retry(campaign).changed == 1
    assert audit(db, make.look(campaign)) == []


def test_those_whom_a_failed_campaign_never_came_to_are_owed_again(
    db: Connection, make: Make
) -> None:
    campaign = make.campaign(people=3, status="failed")
    barred = make.campaign_message("skipped", campaign=campaign, error_code="barred")
    decisions.skip_rest(db, campaign, clock=make.clock)
    assert statuses(db, campaign) == {"skipped": 4}
    assert audit(db, make.look(campaign)) == []
    people = [row[0] for row in db.execute("select contact_id from campaign_messages limit 2")]
    assert make.retry(campaign, Chosen(people, {"131026"})).changed == 0
    assert make.retry(campaign, Chosen(people)).changed == 2
    assert make.retry(campaign).changed == 1
    now = make.look(campaign)
    assert (now.status, now.pending, now.skipped) == (CampaignStatus.PAUSED, 3, 1)
    row = db.execute("select status from campaign_messages where id = ?", (barred,)).fetchone()
    assert row[0] == "skipped"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("change", ["cancel", "resume"])
def test_somebody_else_between_two_pieces_of_a_retry(
    db: Connection, make: Make, change: str
) -> None:
    """Cancelled meanwhile: nothing is owed again. Resumed meanwhile: the rest waits."""
    campaign = make.campaign(status="completed")
    failed(make, campaign)
    held = False

    def meanwhile(_count: int) -> None:
        nonlocal held
        if change == "cancel":
            make.cancel(campaign)
        else:
            with immediate(db):
                campaigns.move(db, make.look(campaign), "resume", at=make.at, run="another")
            held = True

    with pytest.raises(Refused if change == "cancel" else Busy, match="10 were changed"):
        make.retry(campaign, tick=meanwhile, is_held=lambda _: held)
    now = make.look(campaign)
    assert now.messages_failed == PEOPLE - 10
    assert (now.pending, now.skipped) == ((0, 10) if change == "cancel" else (10, 0))
    assert audit(db, now) == []


# -- settle


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("outcome", ["sent", "failed", "pending"])
def test_a_settling_goes_by_pieces_each_sound(db: Connection, make: Make, outcome: str) -> None:
    campaign = make.campaign(status="completed")
    for _ in range(PEOPLE):
        make.campaign_message("in_doubt", campaign=campaign)
    seen, look = at_each_commit(make, campaign)
    assert make.settle(campaign, outcome, tick=look).changed == PEOPLE
    assert [now.in_doubt for now in seen] == [20, 10, 0, 0]
    assert statuses(db, campaign) == {outcome: PEOPLE}
    assert {now.status for now in seen} == {"paused" if outcome == "pending" else "completed"}


def test_what_is_in_doubt_of_a_cancelled_campaign_can_be_settled_but_not_sent(
    db: Connection, make: Make
) -> None:
    campaign = make.campaign(status="cancelled")
    messages = [make.campaign_message("in_doubt", campaign=campaign) for _ in range(3)]
    people = [row[0] for row in db.execute("select contact_id from campaign_messages")]
    with pytest.raises(Refused) as refused:
        make.settle(campaign, "pending")
    assert "settled as sent or failed" in str(refused.value.hint)
    assert make.settle(campaign, "sent", Chosen(people[:1])).changed == 1
    assert make.settle(campaign, "failed", Chosen(codes={"none"})).changed == 0
    assert make.settle(campaign, "failed", Chosen(codes={"test"})).changed == 2
    assert statuses(db, campaign) == {"sent": 1, "failed": 2}
    assert make.look(campaign).status is CampaignStatus.CANCELLED
    assert audit(db, make.look(campaign)) == []
    assert len(messages) == 3


def test_who_must_not_get_it_again_stays_in_doubt(db: Connection, make: Make) -> None:
    campaign = make.campaign(status="paused")
    for _ in range(2):
        make.campaign_message("in_doubt", campaign=campaign)
    db.execute("update contacts set opted_out_at = '2026' where id = 1")
    decided = make.settle(campaign, "pending")
    assert (decided.changed, decided.left) == (1, Counter({"opted out": 1}))
    assert statuses(db, campaign) == {"pending": 1, "in_doubt": 1}
    assert make.settle(campaign, "failed").changed == 1


def test_nothing_is_decided_beside_a_run(db: Connection, make: Make) -> None:
    campaign = make.campaign(status="running", run_id=RUN)
    make.campaign_message("in_doubt", campaign=campaign)
    failed(make, campaign, people=1)
    for decide in (
        make.retry,
        partial(make.settle, outcome="sent"),
    ):
        with pytest.raises(Busy):
            decide(campaign, is_held=lambda _: True)
    assert statuses(db, campaign) == {"in_doubt": 1, "failed": 1}


def test_people_are_found_by_every_spelling(db: Connection, make: Make) -> None:
    campaign = make.campaign()
    brazilian = make.contact("+5511987654321")
    make.contact("+4915112345678")
    make.campaign_message(campaign=campaign, contact=brazilian)
    assert decisions.choose(db, campaign, []) is None
    assert decisions.choose(db, campaign, ["+551187654321", "+5511987654321"]) == frozenset(
        {brazilian}
    )
    for stranger in ("+4915112345678", "+4915112345679"):
        with pytest.raises(NotFound, match="no recipient of spring"):
            decisions.choose(db, campaign, [stranger])


def test_a_number_that_came_again_is_not_the_campaign_that_was_meant(
    db: Connection, make: Make
) -> None:
    other = make.campaign("other", status="paused")
    failed(make, other, people=1)
    gone = replace(other, id="deleted since")
    with pytest.raises(NotFound):
        make.cancel(gone)
    with pytest.raises(NotFound):
        make.retry(gone)
    with pytest.raises(NotFound):
        make.settle(gone, "sent")
    with pytest.raises(NotFound):
        decisions.bury(db, gone, nobody)
    assert statuses(db, other) == {"failed": 1}
