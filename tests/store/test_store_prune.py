"""What is old is forgotten; what became of everybody, and what they wished, is not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from conftest import StillClock
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import CampaignStatus
from wabcast.clock import text
from wabcast.events import Event
from wabcast.receipts import Wish
from wabcast.store import audits, events, inbox, prune
from wabcast.store.database import immediate
from wabcast.store.prune import Pruned

FINISHED = (CampaignStatus.COMPLETED, CampaignStatus.FAILED, CampaignStatus.CANCELLED)


@pytest.fixture
def old(clock: StillClock) -> str:
    return text(clock.now() - timedelta(days=200))


@pytest.fixture
def before(clock: StillClock) -> str:
    return text(clock.now() - timedelta(days=180))


def rows(db: Connection, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute(sql)]


def wrote(db: Connection, contact: int, content: str | None, at: str, kind: str = "text") -> None:
    with immediate(db):
        db.execute(
            "insert into inbound_messages (account_id, contact_id, whatsapp_message_id, kind,"
            " content, received_at) values (1, ?, ?, ?, ?, ?)",
            (contact, f"{contact}{content}{at}", kind, content, at),
        )


@pytest.mark.parametrize("status", CampaignStatus)
def test_words_of_finished_campaigns_are_blanked_and_nothing_else_of_theirs(
    db: Connection, make: Make, old: str, before: str, status: CampaignStatus
) -> None:
    campaign = make.campaign()
    for state in ("read", "failed", "in_doubt", "sent", "replied", "skipped"):
        make.campaign_message(state, campaign=campaign, content='{"type":"text"}')
    with immediate(db):
        db.execute("update campaigns set status = ?, completed_at = ?", (status.value, old))
    counters = "select messages_sent, messages_read, messages_failed, in_doubt from campaigns"
    fates = "select id, status, sent_at, read_at, error_code, attempts from campaign_messages"
    kept = rows(db, counters), rows(db, fates)
    found = prune.look(db, before=before)
    done = prune.prune(db, before=before)
    assert done == found
    assert done.messages == (6 if status in FINISHED else 0)
    left = db.execute("select count(content) from campaign_messages").fetchone()[0]
    assert left == 6 - done.messages
    assert (rows(db, counters), rows(db, fates)) == kept
    assert not prune.prune(db, before=before).messages


def test_what_is_young_or_not_applied_stays(
    db: Connection, make: Make, clock: StillClock, old: str, before: str
) -> None:
    account = make.account()
    with immediate(db):
        for received, applied in ((old, old), (old, make.at), (old, None), (make.at, make.at)):
            number = inbox.keep(db, account.id, b"{}", at=received)
            if applied:
                inbox.done(db, number, at=applied)
        for at in (old, make.at):
            db.execute(
                "insert into parked_receipts (account_id, whatsapp_message_id, receipt, parked_at)"
                " values (1, ?, '{}', ?)",
                (at, at),
            )
            events.add(db, Event("account:halted"), at=at)
    done = prune.prune(db, before=before)
    assert asdict(done) == {"webhooks": 1, "receipts": 1, "messages": 0, "replies": 0, "events": 1}
    assert rows(db, "select received_at, applied_at from webhook_inbox order by id") == [
        (old, make.at),
        (old, None),
        (make.at, make.at),
    ]
    assert rows(db, "select at from events") == [(make.at,)]
    assert prune.prune(db, before=before) == Pruned()


def test_the_number_of_an_event_is_never_given_twice(
    db: Connection, make: Make, old: str, before: str
) -> None:
    with immediate(db):
        last = [events.add(db, Event("account:halted"), at=old) for _ in range(5)][-1]
    prune.prune(db, before=before)
    with immediate(db):
        assert events.add(db, Event("account:halted"), at=make.at) == last + 1


def test_what_a_hook_has_not_heard_is_kept_for_it(
    db: Connection, make: Make, old: str, before: str
) -> None:
    with immediate(db):
        numbers = [events.add(db, Event("account:halted"), at=old) for _ in range(5)]
        for url, heard in (("https://a", numbers[1]), ("https://b", numbers[3])):
            db.execute(
                "insert into hooks (key, url, last_event_id, created_at) values (?, ?, ?, ?)",
                (url, url, heard, old),
            )
    assert prune.prune(db, before=before).events == 2
    assert rows(db, "select id from events") == [(number,) for number in numbers[2:]]


def test_what_people_wrote_is_blanked_but_their_wishes_still_decide(
    db: Connection, make: Make, clock: StillClock, old: str, before: str
) -> None:
    make.account()
    person = make.contact()
    said = ("I live in Kiel", "STOP", "start", None)
    for content in said:
        wrote(db, person, content, old)
    wrote(db, person, Wish.STOP.value, old, inbox.PREFERENCE)
    wrote(db, person, "I moved to Bonn", make.at)
    assert prune.prune(db, before=before) == Pruned(replies=1)
    assert rows(db, "select content from inbound_messages order by id") == [
        *((None,), ("STOP",), ("start",), (None,), (Wish.STOP.value,), ("I moved to Bonn",))
    ]
    earlier = text(clock.now() - timedelta(days=300))
    assert not inbox.stop(db, person, reason="an old body, replayed", at=earlier)


def test_it_goes_in_small_transactions(
    db: Connection, make: Make, old: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "AT_ONCE", 2)
    account = make.account()
    campaign = make.campaign()
    for _ in range(5):
        make.campaign_message("sent", campaign=campaign, content="{}")
        wrote(db, make.contact(), "hello", old)
    with immediate(db):
        db.execute("delete from events")
        db.execute("update campaigns set status = 'completed', completed_at = ?", (old,))
        for _ in range(5):
            inbox.done(db, inbox.keep(db, account.id, b"{}", at=old), at=old)
            events.add(db, Event("account:halted"), at=old)
    ticks: list[int] = []
    done = prune.prune(db, before=before, tick=ticks.append)
    assert asdict(done) == {"webhooks": 5, "receipts": 0, "messages": 5, "replies": 5, "events": 5}
    assert sum(ticks) == 20
    assert max(ticks) == 2


def test_a_pruned_file_is_sound(db: Connection, make: Make, old: str, before: str) -> None:
    gone = make.campaign("gone")
    with immediate(db):
        db.execute("update events set at = ?", (old,))
        events.add(db, Event("campaign:started", gone.id, {"campaignId": gone.id}), at=make.at)
        db.execute("delete from campaigns where number = ?", (gone.number,))
    assert audits.audit_file(db).findings == []
    assert prune.prune(db, before=before).events == 1
    assert audits.audit_file(db).findings == []
    assert rows(db, "pragma foreign_key_check") == []
