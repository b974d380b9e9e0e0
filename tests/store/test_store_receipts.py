"""Receipts may come late, twice and in any order; the ledger ends the same."""

from __future__ import annotations

import random  # noqa: TID251  # hypothesis gives the seed
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection

from wabcast.clock import text
from wabcast.delivery import Deferred, Halted, Rejected, Scope
from wabcast.receipts import (
    AccountNews,
    Inbound,
    News,
    Person,
    Receipt,
    Ref,
    Status,
    TemplateNews,
)
from wabcast.store import campaigns, database, figures, parked, receipts
from wabcast.store.receipts import Applied

START = datetime(2026, 11, 5, 10, tzinfo=UTC)
NOW = "2026-11-05T12:00:00.000Z"
CAMPAIGN = "0199-spring"
PEOPLE = 6


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def phone(number: int) -> str:
    return f"+4917600000{number:02}"


def fill(db: Connection) -> None:
    """An account with a running campaign; nobody has been written to."""
    with database.immediate(db):
        db.execute(
            "insert into accounts (id, name, provider, created_at, updated_at)"
            " values (1, 'shop', 'sandbox', '', ''), (2, 'other', 'sandbox', '', '')"
        )
        db.execute(
            "insert into campaigns (number, id, name, account_id, content, audience, status,"
            " created_at, updated_at, total_recipients, pending)"
            " values (1, ?, 'spring', 1, '{}', '{}', 'running', ?, ?, ?, ?)",
            (CAMPAIGN, text(START), text(START), PEOPLE, PEOPLE),
        )
        db.executemany(
            "insert into contacts (id, phone, created_at, updated_at) values (?, ?, '', '')",
            [(number, phone(number)) for number in range(1, PEOPLE + 1)],
        )
        db.executemany(
            "insert into campaign_messages (id, campaign_id, contact_id, due_at)"
            " values (?, 1, ?, '')",
            [(number, number) for number in range(1, PEOPLE + 1)],
        )


def put(db: Connection, number: int, status: str, **columns: Any) -> None:
    """Bring a message into a state, as a run would have."""
    columns = {"attempts": 0 if status == "pending" else 1, "status": status, **columns}
    if status != "pending":
        columns.setdefault("queued_at", text(at(0)))
    if status in ("sent", "delivered", "read"):
        columns.setdefault("sent_at", text(at(0.5)))
        columns.setdefault("whatsapp_message_id", f"wamid.{number}")
    names = ", ".join(f"{name} = :{name}" for name in columns)
    db.execute(
        f"update campaign_messages set {names} where id = :id",  # noqa: S608  # a test's own names
        {**columns, "id": number},
    )


def receipt(number: int, status: Status, seconds: float = 1, **more: Any) -> Receipt:
    more = {"ref": Ref(CAMPAIGN, number, 1), **more}
    message_id = more.pop("message_id", f"wamid.{number}")
    if status is Status.FAILED:
        more.setdefault("error", Rejected("131026", "not on WhatsApp"))
    return Receipt(message_id, status, at(seconds), **more)


def apply(db: Connection, *news: News, **more: Any) -> Applied:
    with database.immediate(db):
        return receipts.apply(db, 1, news, at=more.pop("now", NOW), **more)


def row(db: Connection, number: int) -> dict[str, Any]:
    found = db.execute("select * from campaign_messages where id = ?", (number,)).fetchone()
    return dict(found)


def campaign(db: Connection) -> dict[str, Any]:
    return dict(db.execute("select * from campaigns").fetchone())


def told(db: Connection) -> list[str]:
    return [found[0] for found in db.execute("select event from events order by id")]


@pytest.fixture
def ledger(db: Connection) -> Connection:
    fill(db)
    return db


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """One file for all examples of a property: each is rolled back."""
    path: Path = tmp_path_factory.mktemp("law") / "wabcast.db"
    db = database.connect(path)
    fill(db)
    yield db
    db.close()


MESSAGES = "select * from campaign_messages order by id"
OPTED_OUT = "select id, opted_out_at is null from contacts"
STATES = ["pending", "queued", "in_doubt", "sent", "failed", "skipped"]
ERRORS = st.sampled_from(
    [
        Rejected("131026", "not on WhatsApp"),
        Rejected("131050", "stopped marketing", opt_out=True),
        Rejected("131008", "a parameter is missing", Scope.MESSAGE),
        Deferred("131000", "unknown error"),
    ]
)


@st.composite
def news(draw: st.DrawFn) -> list[News]:
    number = draw(st.integers(1, PEOPLE))
    seconds = draw(st.integers(-1, 8))
    kind = draw(st.sampled_from([*Status, "reply"]))
    if kind == "reply":
        return [
            Inbound(
                f"wamid.reply.{number}.{seconds}",
                Person(phone(number)),
                at(seconds),
                "text",
                text="thanks",
                context_id=f"wamid.{number}",
            )
        ]
    return [
        receipt(
            number,
            Status(kind),
            seconds,
            error=draw(ERRORS) if kind is Status.FAILED else None,
            ref=draw(st.sampled_from([None, Ref(CAMPAIGN, number, 1)])),
            category=draw(st.sampled_from([None, "marketing", "utility"])),
        )
    ]


SPANS = ("first_sent_at", "last_sent_at", "by_second_until", "by_minute_until")


def outcome(db: Connection, states: Sequence[str], batches: Sequence[Sequence[News]]) -> Any:
    """Where these batches lead, from these states; the file stays as it was."""
    db.execute("begin immediate")
    try:
        for number, state in enumerate(states, 1):
            put(db, number, state)
        for batch in batches:
            receipts.apply(db, 1, batch, at=NOW)
        receipts.apply_parked(db, 1, at=NOW)
        rows = [tuple(found) for found in db.execute(MESSAGES)]
        # All but what only speeds stats up; they are compared as they are told.
        counted = tuple({**campaign(db), **dict.fromkeys(SPANS)}.values())
        told = figures.told(db, campaigns.by_number(db, 1))
        out = [
            tuple(found) for found in db.execute("select id, opted_out_at is null from contacts")
        ]
        linked = db.execute(
            "select whatsapp_message_id, campaign_message_id from inbound_messages order by 1"
        ).fetchall()
        return rows, counted, out, [tuple(found) for found in linked], told
    finally:
        db.execute("rollback")


@given(
    states=st.lists(st.sampled_from(STATES), min_size=PEOPLE, max_size=PEOPLE),
    happened=st.lists(news(), max_size=14),
    seed=st.integers(0, 2**32),
)
def test_any_order_repetition_and_grouping_ends_the_same(
    shared: Connection, states: list[str], happened: list[list[News]], seed: int
) -> None:
    items = [item for few in happened for item in few]
    chance = random.Random(seed)
    shuffled = items + [item for item in items if chance.random() < 0.4]
    chance.shuffle(shuffled)
    batches: list[list[News]] = [[]]
    for item in shuffled:
        if chance.random() < 0.4:
            batches.append([])
        batches[-1].append(item)
    orderly = outcome(shared, states, [items])
    assert outcome(shared, states, batches) == orderly
    assert outcome(shared, states, [[item] for item in reversed(items)]) == orderly


@given(states=st.lists(st.sampled_from(STATES), min_size=PEOPLE, max_size=PEOPLE), data=st.data())
def test_counters_equal_rows_and_stamps_follow_the_rank(
    shared: Connection, states: list[str], data: st.DataObject
) -> None:
    items = [item for few in data.draw(st.lists(news(), max_size=14)) for item in few]
    rows, counted, *_ = outcome(shared, states, [items])
    names = [d[1] for d in shared.execute("pragma table_info(campaign_messages)")]
    found = [dict(zip(names, one, strict=True)) for one in rows]
    names = [d[1] for d in shared.execute("pragma table_xinfo(campaigns)")]
    campaign = dict(zip(names, counted, strict=True))
    for name in ("sent", "delivered", "read", "replied", "failed"):
        stamped = sum(one[f"{name}_at"] is not None for one in found)
        assert campaign[f"messages_{name}"] == stamped, name
    for one in found:
        assert not (one["read_at"] and not one["delivered_at"])
        assert not (one["replied_at"] and not one["read_at"])
        assert not (one["delivered_at"] and (one["failed_at"] or one["error_code"]))
        if one["status"] in ("sent", "delivered", "read", "replied"):
            assert one["sent_at"]
        if one["delivered_at"]:
            assert one["status"] in ("delivered", "read", "replied")


def test_read_implies_delivered_and_stamps_are_the_earliest(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    apply(ledger, receipt(1, Status.READ, 9))
    apply(ledger, receipt(1, Status.DELIVERED, 3), receipt(1, Status.SENT, 2))
    apply(ledger, receipt(1, Status.PLAYED, 12))
    found = row(ledger, 1)
    assert found["status"] == "read"
    assert (found["sent_at"], found["delivered_at"], found["read_at"]) == (
        text(at(0.5)),
        text(at(3)),
        text(at(9)),
    )
    counted = campaign(ledger)
    assert [counted[f"messages_{name}"] for name in ("sent", "delivered", "read")] == [1, 1, 1]


def test_a_receipt_settles_a_doubt_and_leaves_the_id(ledger: Connection) -> None:
    put(ledger, 1, "in_doubt", error_code="crash", error_message="died")
    apply(ledger, receipt(1, Status.DELIVERED, 4, category="marketing", pricing="regular"))
    found = row(ledger, 1)
    assert found["status"] == "delivered"
    assert found["whatsapp_message_id"] == "wamid.1"
    assert found["error_code"] is None
    assert found["pricing"] == "marketing/regular"
    assert campaign(ledger)["in_doubt"] == 0  # counted in by `put`, out by the receipt


def test_what_was_thought_refused_has_gone(ledger: Connection) -> None:
    put(ledger, 1, "pending", attempts=1)
    put(ledger, 2, "failed", failed_at=text(at(1)), error_code="100", error_message="refused")
    apply(ledger, receipt(1, Status.SENT), receipt(2, Status.SENT))
    assert [row(ledger, number)["status"] for number in (1, 2)] == ["sent", "sent"]
    assert row(ledger, 2)["failed_at"] is None


def test_delivered_beats_failed_whichever_comes_first(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    put(ledger, 2, "sent")
    apply(ledger, receipt(1, Status.FAILED, 5), receipt(2, Status.DELIVERED, 6))
    assert row(ledger, 1)["status"] == "failed"
    assert row(ledger, 1)["error_message"] == "not on WhatsApp"
    apply(ledger, receipt(1, Status.DELIVERED, 6), receipt(2, Status.FAILED, 5))
    for number in (1, 2):
        found = row(ledger, number)
        assert (found["status"], found["failed_at"], found["error_code"]) == (
            "delivered",
            None,
            None,
        )
    assert campaign(ledger)["messages_failed"] == 0


def test_a_failure_of_an_earlier_try_is_not_the_later_ones(ledger: Connection) -> None:
    put(ledger, 1, "sent", attempts=2, whatsapp_message_id="wamid.second")
    apply(ledger, receipt(1, Status.FAILED, message_id="wamid.first"))
    assert row(ledger, 1)["status"] == "sent"
    apply(ledger, receipt(1, Status.READ, message_id="wamid.first"))
    assert row(ledger, 1)["status"] == "read"


def test_a_failure_does_not_undo_a_retry(ledger: Connection) -> None:
    put(ledger, 1, "pending", attempts=1)
    assert apply(ledger, receipt(1, Status.FAILED)).parked == 1
    assert row(ledger, 1)["status"] == "pending"
    apply(ledger, receipt(1, Status.SENT))
    assert row(ledger, 1)["status"] == "failed"


def test_the_number_is_never_what_matches(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    stranger = receipt(
        1, Status.READ, message_id="wamid.strange", ref=None, person=Person(phone(1))
    )
    elsewhere = receipt(
        1, Status.READ, message_id="wamid.elsewhere", ref=Ref("another-campaign", 1, 1)
    )
    done = apply(ledger, stranger, elsewhere)
    assert (done.changed, done.parked) == (0, 2)


def test_another_accounts_receipts_do_not_count(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    with database.immediate(ledger):
        done = receipts.apply(ledger, 2, [receipt(1, Status.READ)], at=NOW)
    assert (done.changed, done.parked) == (0, 1)


def test_early_ones_wait_for_the_id(ledger: Connection) -> None:
    put(ledger, 1, "queued")
    early = receipt(1, Status.DELIVERED, 3, ref=None)
    assert apply(ledger, early, early).parked == 2
    assert ledger.execute("select count(*) from parked_receipts").fetchone()[0] == 1
    put(ledger, 1, "sent")  # the run records its outcome
    with database.immediate(ledger):
        receipts.apply_parked(ledger, 1, at=NOW)
    assert row(ledger, 1)["delivered_at"] == text(at(3))
    assert ledger.execute("select count(*) from parked_receipts").fetchone()[0] == 0


def test_early_ones_join_later_news_of_the_same_message(ledger: Connection) -> None:
    put(ledger, 1, "queued")
    apply(ledger, receipt(1, Status.DELIVERED, 3, ref=None))
    apply(ledger, receipt(1, Status.READ, 5))
    found = row(ledger, 1)
    assert (found["delivered_at"], found["read_at"]) == (text(at(3)), text(at(5)))


def test_what_never_finds_its_message_is_forgotten_after_a_while(ledger: Connection) -> None:
    apply(ledger, receipt(1, Status.READ, message_id="wamid.theirs", ref=None))
    with database.immediate(ledger):
        assert parked.prune(ledger, before=NOW) == 0
        assert parked.prune(ledger, before="2026-12-06T00:00:00.000Z") == 1


def test_a_stop_by_receipt_opts_out_once(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    stop = receipt(1, Status.FAILED, error=Rejected("131050", "stopped", opt_out=True))
    assert apply(ledger, stop).opted_out == 1
    assert apply(ledger, stop).opted_out == 0
    assert told(ledger) == ["contact:opted_out"]
    found = ledger.execute("select * from contacts where id = 1").fetchone()
    assert found["opt_out_reason"] == "131050 stopped"
    assert found["opted_out_at"] == text(at(1))


def test_a_fault_of_the_account_pauses_what_runs_on_it(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    halt = receipt(1, Status.FAILED, error=Halted("131031", "the account is locked"))
    apply(ledger, halt)
    assert campaign(ledger)["status"] == "paused"
    assert campaign(ledger)["reason"] == "131031 the account is locked"
    assert sorted(told(ledger)) == ["account:halted", "campaign:paused"]
    ledger.execute("update campaigns set status = 'running', updated_at = ?", (NOW,))
    apply(ledger, halt)
    put(ledger, 2, "sent")
    apply(ledger, receipt(2, Status.FAILED, error=Halted("131031", "the account is locked")))
    assert campaign(ledger)["status"] == "running", "resumed after it was said"


def test_news_of_the_account_pauses_too(ledger: Connection) -> None:
    apply(ledger, AccountNews("account_update", "DISABLED_UPDATE", "DISABLE", halts=True))
    assert campaign(ledger)["status"] == "paused"


def test_a_template_at_fault_pauses_its_campaign(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    error = Halted("132015", "the template is paused", Scope.CAMPAIGN)
    apply(ledger, receipt(1, Status.FAILED, error=error))
    assert campaign(ledger)["status"] == "paused"
    assert told(ledger) == ["campaign:paused"]


def more_messages(db: Connection, count: int) -> None:
    with database.immediate(db):
        db.executemany(
            "insert into campaign_messages (id, campaign_id, due_at, status, attempts, queued_at,"
            " sent_at, whatsapp_message_id) values (:id, 1, '', 'sent', 1, :at, :at, :wamid)",
            [
                {"id": number, "at": text(START), "wamid": f"wamid.{number}"}
                for number in range(1000, 1000 + count)
            ],
        )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("131008", "a parameter is missing", Scope.MESSAGE), "paused"),
        (Deferred("131000", "unknown error"), "paused"),
        (Rejected("131026", "not on WhatsApp"), "running"),
    ],
)
def test_half_of_the_last_hundred_trips_the_breaker_unless_people_are_at_fault(
    ledger: Connection, error: Rejected | Deferred, status: str
) -> None:
    more_messages(ledger, 100)
    numbers = range(1000, 1100)
    apply(ledger, *(receipt(n, Status.DELIVERED) for n in numbers if n % 2))
    failures = [receipt(n, Status.FAILED, error=error) for n in numbers if n % 2 == 0]
    apply(ledger, *failures[:49])
    assert campaign(ledger)["status"] == "running"
    apply(ledger, failures[49])
    assert campaign(ledger)["status"] == status


def test_fifty_failures_among_many_are_no_reason(ledger: Connection) -> None:
    more_messages(ledger, 150)
    error = Rejected("131008", "a parameter is missing", Scope.MESSAGE)
    apply(
        ledger,
        *(
            receipt(n, Status.DELIVERED) if n % 3 else receipt(n, Status.FAILED, error=error)
            for n in range(1000, 1150)
        ),
    )
    assert campaign(ledger)["messages_failed"] == 50
    assert campaign(ledger)["status"] == "running"


def test_events_of_messages_only_when_asked(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    put(ledger, 2, "sent")
    apply(ledger, receipt(1, Status.READ))
    assert told(ledger) == []
    apply(ledger, receipt(2, Status.READ), trace=True)
    apply(ledger, receipt(2, Status.READ), trace=True)
    assert told(ledger) == ["message:delivered", "message:read"]


def test_a_bsuid_is_learnt_and_never_stolen(ledger: Connection) -> None:
    put(ledger, 1, "sent")
    put(ledger, 2, "sent")
    same = Person(bsuid="US.1349")
    apply(ledger, receipt(1, Status.SENT, person=same))
    apply(ledger, receipt(2, Status.SENT, person=same))
    found = [r[0] for r in ledger.execute("select bsuid from contacts order by id limit 2")]
    assert found == ["US.1349", None]


def test_templates_change_their_status(ledger: Connection) -> None:
    ledger.execute(
        "insert into templates (name, account_id, language, body, created_at, updated_at)"
        " values ('hello', 1, 'en_US', '{}', '', '')"
    )
    apply(ledger, TemplateNews("7", "hello", "en_US", "PAUSED", "bad"))
    assert ledger.execute("select status from templates").fetchone()[0] == "PAUSED"
    assert told(ledger) == ["template:status"]


def test_hot_statements_use_their_indices(ledger: Connection) -> None:
    given = {"ids": "[1]", "account": 1, "campaign": 1, "code": "1", "since": "", "half": 1}
    given |= {
        "first": 1,
        "last": 2,
        "enough": 3,
        "contact": 1,
        "until": "",
        "context": "",
        "hashed": "",
    }
    given |= {"rows": "[]", "bodies": "[]", "at": ""}
    from wabcast.store import halts, inbox

    for statement, index in (
        (receipts.BY_MESSAGE_ID, "campaign_messages_wamid"),
        (receipts.BY_ID, "SEARCH m USING INTEGER PRIMARY KEY"),
        (receipts.PROGRESS, "SEARCH m USING INTEGER PRIMARY KEY"),
        (inbox.DONE, "SEARCH i USING INTEGER PRIMARY KEY"),
        (parked.THEIRS, "account_id=? AND whatsapp_message_id=?"),
        (halts.FAILURES, "campaign_messages_failed"),
        (halts.BETWEEN, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (inbox.NEWEST, "campaign_messages_contact"),
        (inbox.ANSWERED, "campaign_messages_wamid"),
        (inbox.QUOTING, "inbound_messages_contact"),
    ):
        plan = " ".join(r[3] for r in ledger.execute("explain query plan " + statement, given))
        assert index in plan, plan
        assert "SCAN m" not in plan, plan
        assert "SCAN p" not in plan, plan
