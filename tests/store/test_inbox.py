"""What people write: whose it is, what it answers, what it wishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pysqlite3.dbapi2 import Connection

from wabcast.clock import text
from wabcast.receipts import Inbound, Moved, News, Person, Preference, Receipt, Ref, Status, Wish
from wabcast.store import database, inbox, receipts
from wabcast.store.receipts import Applied

SENT = datetime(2026, 11, 5, 10, tzinfo=UTC)
NOW = "2026-11-09T12:00:00.000Z"
ANN, BEN, RIO = "+4917600000001", "+4917600000002", "+5511987654321"


@pytest.fixture
def people(db: Connection) -> Connection:
    """Ann, Ben and a Brazilian were sent one message each, Ann two, a day apart."""
    with database.immediate(db):
        db.execute(
            "insert into accounts (id, name, provider, created_at, updated_at)"
            " values (1, 'shop', 'sandbox', '', '')"
        )
        for number in (1, 2):
            db.execute(
                "insert into campaigns (number, id, name, account_id, content, audience, status,"
                " created_at, updated_at) values (?, ?, ?, 1, '{}', '{}', 'running', '', ?)",
                (number, f"c-{number}", f"c{number}", text(SENT)),
            )
        for number, phone in enumerate((ANN, BEN, RIO), 1):
            db.execute(
                "insert into contacts (id, phone, created_at, updated_at) values (?, ?, '', '')",
                (number, phone),
            )
            put(db, number, number, 1, "sent", SENT)
        put(db, 11, 1, 2, "sent", SENT + timedelta(days=1))
    return db


def put(
    db: Connection, number: int, contact: int, campaign: int, status: str, when: datetime
) -> None:
    gone = status == "sent"
    db.execute(
        "insert into campaign_messages (id, campaign_id, contact_id, status, attempts, due_at,"
        " queued_at, sent_at, whatsapp_message_id) values (?, ?, ?, ?, 1, '', ?, ?, ?)",
        (number, campaign, contact, status, text(when), text(when) if gone else None,
         f"wamid.{number}" if gone else None),
    )  # fmt: skip


def hear(db: Connection, *news: News, **more: Any) -> Applied:
    with database.immediate(db):
        return receipts.apply(db, 1, news, at=NOW, **more)


def said(
    words: str, phone: str | None = ANN, hours: float = 30, name: str = "1", **more: Any
) -> Inbound:
    who = more.pop("person", Person(phone))
    kind = more.pop("kind", "text")
    return Inbound(f"in.{name}", who, SENT + timedelta(hours=hours), kind, text=words, **more)


def status(db: Connection, number: int) -> str:
    found = db.execute("select status from campaign_messages where id = ?", (number,)).fetchone()
    return str(found[0])


def linked(db: Connection) -> list[int | None]:
    return [r[0] for r in db.execute("select campaign_message_id from inbound_messages")]


def out(db: Connection, contact: int = 1) -> str | None:
    found = db.execute(
        "select opt_out_reason from contacts where id = ? and opted_out_at is not null", (contact,)
    ).fetchone()
    return found[0] if found is not None else None


def test_a_quotation_says_what_is_answered(people: Connection) -> None:
    done = hear(people, said("yes!", context_id="wamid.1"))
    assert (done.inbound, done.replies) == (1, 1)
    assert (status(people, 1), status(people, 11)) == ("replied", "sent")


def test_without_one_it_is_the_newest_message(people: Connection) -> None:
    hear(people, said("yes!"))
    assert (status(people, 1), status(people, 11)) == ("sent", "replied")
    found = people.execute("select * from campaign_messages where id = 11").fetchone()
    assert (
        found["replied_at"]
        == found["read_at"]
        == found["delivered_at"]
        == text(SENT + timedelta(hours=30))
    )


@pytest.mark.parametrize(("hours", "answers"), [(95, 11), (97, None), (-1, None), (5, 1)])
def test_only_within_72_hours_and_never_backwards(
    people: Connection, hours: float, answers: int | None
) -> None:
    hear(people, said("hello", hours=hours))
    assert linked(people) == [answers]


def test_the_window_is_a_parameter(people: Connection) -> None:
    hear(people, said("hello", hours=30), reply_window=timedelta(hours=2))
    assert linked(people) == [None]


def test_the_same_message_twice_is_one(people: Connection) -> None:
    hear(people, said("STOP"))
    again = hear(people, said("STOP"), said("STOP"))
    assert again == Applied()
    assert people.execute("select count(*) from inbound_messages").fetchone()[0] == 1
    assert people.execute("select count(*) from events").fetchone()[0] == 1


def test_a_stranger_is_heard_and_no_contact_is_made(people: Connection) -> None:
    hear(people, said("hello", phone="+4915100000000"))
    assert people.execute("select count(*) from contacts").fetchone()[0] == 3
    assert linked(people) == [None]


def test_a_person_without_a_number_is_known_by_what_they_quote(people: Connection) -> None:
    nobody = Person(bsuid="DE.777")
    hear(people, said("thanks", person=nobody, context_id="wamid.2"))
    hear(people, said("STOP", person=nobody, name="2"))
    assert out(people, 2) == "wrote 'STOP'"


def test_a_reaction_answers_what_it_was_put_on_and_wishes_nothing(people: Connection) -> None:
    hear(people, said("🛑", kind="reaction", payload="wamid.2", phone=BEN))
    assert status(people, 2) == "replied"
    hear(people, said("stop", kind="reaction", payload="wamid.gone", phone=BEN, name="2"))
    assert out(people, 2) is None


def test_media_count_as_replies(people: Connection) -> None:
    hear(people, said("", kind="image", phone=BEN))
    assert status(people, 2) == "replied"


def test_half_an_emoji_is_kept_as_well_as_can_be(people: Connection) -> None:
    hear(people, said("so nice \ud83d"))
    assert people.execute("select content from inbound_messages").fetchone()[0] == "so nice ?"


def test_a_reply_waits_for_the_proof_that_something_left(people: Connection) -> None:
    people.execute("delete from campaign_messages where contact_id = 2")
    put(people, 20, 2, 1, "in_doubt", SENT)
    hear(people, said("who is this?", phone=BEN))
    assert status(people, 20) == "in_doubt"
    ref = Ref("c-1", 20, 1)
    hear(people, Receipt("wamid.20", Status.DELIVERED, SENT + timedelta(hours=1), ref=ref))
    assert status(people, 20) == "replied"
    assert linked(people) == [20]


def test_a_quotation_waits_for_the_id_it_quotes(people: Connection) -> None:
    people.execute("delete from campaign_messages where id = 11")
    put(people, 11, 1, 2, "in_doubt", SENT + timedelta(days=1))
    hear(people, said("yes", context_id="wamid.11"))
    ref = Ref("c-2", 11, 1)
    hear(people, Receipt("wamid.11", Status.SENT, SENT + timedelta(days=1), ref=ref))
    assert status(people, 11) == "replied"
    assert linked(people) == [11]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_later_wish_wins_in_whichever_order_they_come(
    people: Connection, backwards: bool
) -> None:
    wishes = [said("STOP", hours=30, name="a"), said("START", hours=31, name="b")]
    for wish in reversed(wishes) if backwards else wishes:
        hear(people, wish)
    assert out(people) is None
    hear(people, said("stop", hours=32, name="c"))
    assert out(people) == "wrote 'stop'"
    hear(people, *wishes)
    assert out(people) == "wrote 'stop'"


def test_preferences_of_whatsapp_are_wishes_too(people: Connection) -> None:
    stop = Preference(Person(ANN), Wish.STOP, SENT + timedelta(hours=1))
    resume = Preference(Person(ANN), Wish.RESUME, SENT + timedelta(hours=2))
    assert hear(people, stop).opted_out == 1
    assert out(people) == "stopped marketing messages in WhatsApp"
    assert hear(people, resume).opted_in == 1
    assert hear(people, stop, resume, stop) == Applied()
    assert out(people) is None


def test_an_opt_out_by_hand_is_not_undone_by_an_older_start(people: Connection) -> None:
    people.execute("update contacts set opted_out_at = ?, opt_out_reason = 'phoned us'", (NOW,))
    hear(people, said("START"))
    assert out(people) == "phoned us"


def test_who_is_stopped_has_a_time_and_an_event(people: Connection) -> None:
    hear(people, said("Unsubscribe", kind="button", payload="btn"))
    found = people.execute("select * from contacts where id = 1").fetchone()
    assert found["opted_out_at"] == text(SENT + timedelta(hours=30))
    event = people.execute("select event, data from events").fetchone()
    assert event["event"] == "contact:opted_out"
    assert ANN in event["data"]


@pytest.mark.parametrize(
    ("told", "imported"),
    [
        ("+551187654321", RIO),
        (RIO, "+551187654321"),
        ("+5215512345678", "+525512345678"),
        ("+525512345678", "+5215512345678"),
        ("+541123456789", "+5491123456789"),
    ],
)
def test_a_number_that_whatsapp_spells_otherwise_is_the_same_person(
    people: Connection, told: str, imported: str
) -> None:
    people.execute("update contacts set phone = ? where id = 3", (imported,))
    hear(people, said("STOP", phone=told))
    assert out(people, 3)


def test_a_landline_is_not_another_spelling() -> None:
    assert inbox.spellings("+551132654321") == ["+551132654321"]
    assert inbox.spellings("+4917600000001") == ["+4917600000001"]


def test_a_new_number_takes_the_opt_out_along(people: Connection) -> None:
    hear(people, said("STOP"))
    hear(people, Moved(Person(ANN), Person(BEN)))
    assert out(people, 2) == "wrote 'STOP' (under another number)"
    hear(people, Moved(Person(BEN), Person("+4915100000000", "DE.9")))
    moved = people.execute("select phone, bsuid from contacts where id = 2").fetchone()
    assert tuple(moved) == ("+4915100000000", "DE.9")


def test_bodies_wait_in_their_order_and_are_done_once(people: Connection) -> None:
    with database.immediate(people):
        first, second = (inbox.keep(people, 1, b"{}", at=NOW) for _ in range(2))
    assert [row["id"] for row in inbox.waiting(people)] == [first, second]
    assert inbox.done(people, first, at=NOW)
    assert not inbox.done(people, first, at=NOW)
    assert inbox.count_waiting(people) == 1
    assert inbox.seen(people, next(inbox.waiting(people)))
    assert inbox.prune(people, before="2027-01-01T00:00:00.000Z") == 1
    assert inbox.count_waiting(people) == 1


def test_bodies_of_a_group_are_kept_as_they_came(
    people: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "AT_ONCE", 10)
    bodies = [b"", b"\x00\xff", "é".encode(), b"[1]" * 9, b"", b"x"]
    with database.immediate(people):
        inbox.keep_all(people, [(1, body) for body in bodies], at=NOW)
        alone = inbox.keep(people, 1, b"x", at=NOW)
    rows = list(inbox.waiting(people))
    assert [row["body"] for row in rows] == [*bodies, b"x"]
    assert rows[-1]["id"] == alone
    assert rows[-1]["digest"] == rows[-2]["digest"]


def test_bodies_of_a_group_are_done_once_each(people: Connection) -> None:
    with database.immediate(people):
        inbox.keep_all(people, [(1, b"{}"), (1, b"{"), (1, b"[]")], at=NOW)
    first, second, third = (row["id"] for row in inbox.waiting(people))
    assert inbox.done(people, first, at=NOW)
    told = [(first, None), (second, "cannot be read"), (third, None)]
    assert inbox.done_all(people, told, at=NOW) == {second, third}
    assert inbox.done_all(people, told, at=NOW) == set()
    found = people.execute("select error from webhook_inbox order by id").fetchall()
    assert [row[0] for row in found] == [None, "cannot be read", None]
