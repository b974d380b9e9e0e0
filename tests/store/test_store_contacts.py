"""People in the file: choosing, opting out, erasing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysqlite3.dbapi2 import Connection

from wabcast.audience import EVERYBODY, Audience, AudienceKind
from wabcast.clock import Clock
from wabcast.contacts import Contact
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.store import contacts, erasure, events, segments
from wabcast.store.contacts import Changed
from wabcast.store.personal_data import erased_id

AT = "2026-11-05T10:00:00.000Z"
LATER = "2026-11-06T10:00:00.000Z"
CLOCK = Clock()
ANN, BOB, CID = "+4915112345670", "+4915112345671", "+4915112345672"


def crowd(count: int, *, start: int = 0) -> Iterator[Contact]:
    for i in range(start, start + count):
        yield Contact(
            f"+49151{i * 7919 % 10**8:08d}",
            f"P{i}",
            attributes={"city": "Berlin" if i % 2 else "Bonn", "n": str(i)},
            tags=("third",) if i % 3 == 0 else (),
        )


def phones(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("select phone from contacts order by id")]


def campaign(db: Connection, name: str = "spring", audience: Audience = EVERYBODY) -> int:
    db.execute(
        "insert or ignore into accounts (name, provider, created_at, updated_at)"
        " values ('a', 'sandbox', '', '')"
    )
    made = db.execute(
        "insert into campaigns (id, name, account_id, content, audience, created_at, updated_at)"
        " values (?, ?, 1, '{}', ?, '', '')",
        (name, name, json.dumps(audience.to_json())),
    )
    return int(made.lastrowid or 0)


def chosen(db: Connection, audience: Audience) -> list[str]:
    found = [row[0] for row in contacts.chosen(db, audience)]
    known = {row["id"]: row["phone"] for row in db.execute("select id, phone from contacts")}
    assert len(found) == contacts.count(db, audience)
    return [known[person] for person in found]


# Choosing ----------------------------------------------------------------------------------


@pytest.fixture
def three(db: Connection) -> Connection:
    contacts.upsert(
        db,
        [
            Contact(ANN, "Ann", attributes={"city": "Berlin"}, tags=("vip", "staff")),
            Contact(BOB, "Bob", attributes={"city": "Berlin"}, tags=("new",)),
            Contact(CID, "Cid", attributes={"city": "Bonn"}, tags=("vip",)),
        ],
        at=AT,
    )
    segments.create(db, "berliners", "city = 'Berlin'", at=AT)
    return db


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (EVERYBODY, [ANN, BOB, CID]),
        (Audience(AudienceKind.TAGS, tags=("vip", "new")), [ANN, BOB, CID]),
        (Audience(AudienceKind.TAGS, tags=("vip",)).without(tags=["staff"]), [CID]),
        (Audience(AudienceKind.SEGMENT, segment="berliners"), [ANN, BOB]),
        (Audience(AudienceKind.WHERE, where="city = 'Berlin' or true"), [ANN, BOB, CID]),
        (
            Audience(AudienceKind.WHERE, where="tag('vip') or tag('new')").without(phones=[ANN]),
            [BOB, CID],
        ),
        (Audience(AudienceKind.PHONES, phones=(CID, ANN, "+4917")), [ANN, CID]),
    ],
)
def test_an_audience_chooses(three: Connection, audience: Audience, expected: list[str]) -> None:
    assert chosen(three, audience) == expected
    contacts.opt_out(three, [expected[0]], reason="stop", at=AT)
    contacts.block(three, [expected[-1]], at=AT)
    assert chosen(three, audience) == expected[1:-1]


def test_an_audience_whose_segment_is_gone_or_faulty_says_so(three: Connection) -> None:
    with pytest.raises(NotFound, match="berlinrs"):
        contacts.count(three, Audience(AudienceKind.SEGMENT, segment="berlinrs"))
    three.execute("update segments set expression = 'nothing = 1'")
    with pytest.raises(Refused, match="berliners"):
        contacts.count(three, Audience(AudienceKind.SEGMENT, segment="berliners"))


@pytest.mark.parametrize("kind", [AudienceKind.TAGS, AudienceKind.PHONES])
def test_a_list_or_a_tag_is_looked_up(three: Connection, kind: AudienceKind) -> None:
    sql, given = contacts._chosen(three, contacts.CHOOSE, Audience(kind, tags=("vip",)))
    rows = three.execute("explain query plan " + sql + contacts.IN_ORDER, given)
    plan = [row[3] for row in rows]
    assert any("SEARCH contacts" in line for line in plan)
    assert "SCAN contacts" not in plan


def test_listing_goes_page_by_page(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "PAGE", 7)
    contacts.upsert(db, crowd(30), at=AT)
    everyone = phones(db)
    assert [one.phone for one in contacts.each(db)] == everyone
    assert [one.phone for one in contacts.each(db, limit=14)] == everyone[:14]
    assert [one.phone for one in contacts.each(db, tags=["third"])] == everyone[::3]
    both = contacts.each(db, tags=["third"], where="city = 'Bonn'")
    assert [one.phone for one in both] == everyone[::6]
    contacts.opt_out(db, everyone[:2], reason="stop", at=AT)
    assert [one.phone for one in contacts.each(db, opted_out=True)] == everyone[:2]
    assert len(list(contacts.each(db, opted_out=False))) == 28


# Standing ----------------------------------------------------------------------------------


def test_the_first_opt_out_stays_and_is_told_once(three: Connection) -> None:
    stranger = "+4915112345679"
    done = contacts.opt_out(three, [ANN, stranger], reason="stop", at=AT)
    assert done == Changed(changed=1, unknown=1)
    assert contacts.opt_out(three, [ANN], reason="other", at=LATER) == Changed(already=1)
    ann = contacts.get(three, ANN)
    assert (ann.opted_out_at, ann.opt_out_reason) == (AT, "stop")
    told = list(events.since(three, 0))
    assert [(one["event"], one["data"]["phone"]) for one in told] == [("contact:opted_out", ANN)]
    contacts.upsert(three, [Contact(stranger, "Eve")], at=LATER)
    assert contacts.get(three, stranger).opt_out_reason == "stop"


def test_opting_in_forgets_the_hash_too(three: Connection) -> None:
    contacts.opt_out(three, [ANN, "+4917"], reason="stop", at=AT)
    done = contacts.opt_in(three, [ANN, BOB, "+4917", "+4918"], at=LATER)
    assert done == Changed(changed=2, already=1, unknown=1)
    assert contacts.get(three, ANN).opted_out_at is None
    assert three.execute("select count(*) from suppressions").fetchone()[0] == 0


def test_blocking_is_taken_back(three: Connection) -> None:
    assert contacts.block(three, [ANN, "+4917"], at=AT) == Changed(changed=1, unknown=1)
    assert contacts.block(three, [ANN], at=LATER) == Changed(already=1)
    assert contacts.get(three, ANN).blocked_at == AT
    assert contacts.unblock(three, [ANN, BOB], at=LATER) == Changed(changed=1, already=1)


def test_an_opt_out_in_the_callers_transaction_is_undone_with_it(three: Connection) -> None:
    three.execute("begin immediate")
    contacts.opt_out(three, [ANN], reason="stop", at=AT)
    three.execute("rollback")
    assert contacts.get(three, ANN).opted_out_at is None


def test_editing(three: Connection) -> None:
    assert contacts.edit(three, ANN, {"first_name": "Anna", "City": "Bonn", "x": "1"}, at=LATER)
    ann = contacts.get(three, ANN)
    assert ann.attributes == {"city": "Bonn", "x": "1"}
    assert contacts.edit(three, ANN, {"x": "", "company": ""}, at=LATER)
    assert not contacts.edit(three, ANN, {"x": "", "first_name": "Anna"}, at=LATER)
    with pytest.raises(Refused, match="another contact"):
        contacts.edit(three, ANN, {"phone": BOB}, at=LATER)
    with pytest.raises(UsageError):
        contacts.edit(three, ANN, {"phone": ""}, at=LATER)
    with pytest.raises(NotFound):
        contacts.edit(three, "+4917", {"x": "1"}, at=LATER)


def test_tagging_is_all_or_nothing(three: Connection) -> None:
    with pytest.raises(NotFound):
        contacts.tag(three, [BOB, "+4917"], ["hot"], at=LATER)
    assert contacts.get(three, BOB).tags == ("new",)
    assert contacts.tag(three, [ANN, BOB], ["vip"], at=LATER) == 1
    assert contacts.untag(three, [ANN, CID, BOB], ["vip", "new"], at=LATER) == 3
    assert contacts.get(three, ANN).tags == ("staff",)


# Erasing -----------------------------------------------------------------------------------


def test_a_removed_person_is_nowhere_and_stays_opted_out(three: Connection, db_path: Path) -> None:
    name, word = "Zebediah", "private words"
    contacts.edit(three, ANN, {"first_name": name}, at=AT)
    numbers = [campaign(three, n, Audience(AudienceKind.PHONES, phones=(ANN,))) for n in "abcd"]
    statuses = ["pending", "sent", "in_doubt", "failed"]
    for number, status in zip(numbers, statuses, strict=True):
        three.execute(
            "insert into campaign_messages (campaign_id, contact_id, status, due_at, content,"
            " error_message) values (?, 1, ?, '', ?, ?)",
            (number, status, f"Hi {name}", f"not reachable: {ANN[1:]}"),
        )
    three.execute("update campaigns set pending = 1 where name = 'a'")
    three.execute(
        "insert into inbound_messages (contact_id, whatsapp_message_id, kind, content, received_at)"
        " values (1, 'w', 'text', ?, ?)",
        (word, AT),
    )
    three.execute(
        "insert into webhook_inbox (received_at, body, digest, applied_at) values ('', ?, '', '')",
        (f'{{"from": "{ANN[1:]}", "text": "{word}"}}'.encode(),),
    )
    assert len(contacts.history(three, ANN)) == 5
    contacts.opt_out(three, [ANN], reason="stop", at=AT)

    assert erasure.remove(three, ANN, at=LATER, clock=CLOCK) == 1

    rows = three.execute("select status, content, contact_id from campaign_messages order by id")
    assert [tuple(row) for row in rows] == [
        ("skipped", None, None),
        ("sent", None, None),
        ("in_doubt", None, None),
        ("failed", None, None),
    ]
    counted = three.execute("select pending, skipped from campaigns where name = 'a'").fetchone()
    assert tuple(counted) == (0, 1)
    # Earlier versions of the row, moved about by SQLite, are cleared by a vacuum.
    three.execute("vacuum")
    three.execute("pragma wal_checkpoint(truncate)").fetchone()
    for secret in (name, word, ANN, ANN[1:]):
        for path in db_path.parent.glob("wabcast.db*"):
            assert secret.encode() not in path.read_bytes(), (secret, path.name)
    with pytest.raises(NotFound):
        contacts.get(three, ANN)
    contacts.upsert(three, [Contact(ANN)], at=LATER)
    back = contacts.get(three, ANN)
    assert (back.opted_out_at, back.opt_out_reason) == (AT, "stop")


def test_a_blocked_person_comes_back_unreachable_and_a_free_one_free(three: Connection) -> None:
    contacts.block(three, [ANN], at=AT)
    for phone in (ANN, BOB):
        erasure.remove(three, phone, at=LATER, clock=CLOCK)
    contacts.upsert(three, [Contact(ANN), Contact(BOB)], at=LATER)
    assert contacts.get(three, ANN).opt_out_reason == "blocked"
    assert contacts.get(three, BOB).opted_out_at is None
    with pytest.raises(NotFound):
        erasure.remove(three, "+4917", at=LATER, clock=CLOCK)


@pytest.mark.parametrize("said", ["US.1349120865", "5511987654321", "551187654321"])
def test_a_removed_person_is_in_no_body_however_they_were_named(
    three: Connection, said: str
) -> None:
    contacts.edit(three, ANN, {"first_name": "Zebediah"}, at=AT)
    three.execute("update contacts set phone = '+5511987654321', bsuid = 'US.1349120865'"
                  " where phone = ?", (ANN,))  # fmt: skip
    for body in (f'{{"from": "{said}"}}', '{"from": "4915100000099"}'):
        three.execute(
            "insert into webhook_inbox (received_at, body, digest, applied_at)"
            " values ('', ?, '', '')",
            (body.encode(),),
        )
    erasure.remove(three, "+5511987654321", at=LATER, clock=CLOCK)
    left = [row[0] for row in three.execute("select body from webhook_inbox order by id")]
    assert left == [b"", b'{"from": "4915100000099"}']


def test_a_receipt_that_waits_names_no_removed_person(three: Connection) -> None:
    number = campaign(three, "a", Audience(AudienceKind.PHONES, phones=(ANN,)))
    three.execute(
        "insert into campaign_messages (campaign_id, contact_id, status, due_at,"
        " whatsapp_message_id) values (?, 1, 'sent', '', 'wamid.ann')",
        (number,),
    )
    for name in ("wamid.ann", "wamid.else"):
        three.execute(
            "insert into parked_receipts (account_id, whatsapp_message_id, receipt, parked_at)"
            " values (1, ?, '{}', '')",
            (name,),
        )
    erasure.remove(three, ANN, at=LATER, clock=CLOCK)
    left = [row[0] for row in three.execute("select whatsapp_message_id from parked_receipts")]
    assert left == [erased_id("wamid.ann"), "wamid.else"]
