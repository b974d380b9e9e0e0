"""What stats keep is what the rows say, and goes as soon as one of them changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.delivery import MessageStatus
from wabcast.store import audits, campaigns, erasure, figures, ledger
from wabcast.store.database import connect, immediate


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LARGE", 1)


@pytest.fixture
def spring(large: None, db: Connection, make: Make) -> Campaign:
    campaign = make.campaign()
    for status in MessageStatus:
        make.campaign_message(status, campaign=campaign, pricing="marketing/regular")
    assert figures.kept(db, campaign) is None
    return campaign


def test_a_second_look_reads_no_row_of_the_ledger(
    db: Connection, spring: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = figures.stats(db, spring)
    monkeypatch.setattr(figures, "reckoned", None)
    assert figures.stats(db, spring) == told
    asked: list[str] = []
    db.set_trace_callback(asked.append)
    figures.stats(db, spring)
    db.set_trace_callback(None)
    assert asked
    assert not any("campaign_messages" in statement for statement in asked)


@pytest.mark.parametrize("busy_seconds", [5.0, 30.0])
def test_a_look_leaves_the_patience_of_its_connection_as_it_was(
    spring: Campaign, db_path: Path, busy_seconds: float
) -> None:
    """The server's connections are shared, and wait less than a command's."""
    db = connect(db_path, busy_seconds=busy_seconds)
    before = db.execute("pragma busy_timeout").fetchone()[0]
    figures.stats(db, spring)
    assert figures.kept(db, spring) is not None, "there was something to keep"
    assert db.execute("pragma busy_timeout").fetchone()[0] == before == busy_seconds * 1000
    db.close()


CHANGES: dict[str, Callable[[Connection, int], Any]] = {
    "retried": lambda db, number: ledger.retry(db, number, codes=None),
    "settled": lambda db, number: ledger.settle_by_hand(
        db, number, MessageStatus.FAILED, at="2026"
    ),
    "cancelled": ledger.cancel,
    "taken over": lambda db, number: ledger.take_over(db, number, "another"),
}
COLUMNS = (
    *("sent_at", "delivered_at", "read_at", "replied_at", "failed_at"),
    *("error_code", "error_message", "pricing", "variant"),
)


@pytest.mark.parametrize("column", COLUMNS)
def test_no_statement_changes_a_column_unseen(
    db: Connection, spring: Campaign, column: str
) -> None:
    figures.stats(db, spring)
    db.execute(f"update campaign_messages set {column} = '2026-11-05T11:00:00.000Z' where id = 1")  # noqa: S608
    assert figures.kept(db, spring) is None


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_kept_does_not_outlive_a_row(
    db: Connection, spring: Campaign, change: str
) -> None:
    figures.stats(db, spring)
    assert figures.kept(db, spring) is not None
    with immediate(db):
        CHANGES[change](db, spring.number)
    assert figures.kept(db, spring) is None
    told = figures.stats(db, spring)
    known = figures.kept(db, spring)
    assert known is not None
    assert known.items() <= told.items()


def test_a_person_who_is_removed_stands_in_no_figure_either(
    db: Connection, make: Make, spring: Campaign
) -> None:
    phone = "+4915700000077"
    quoted = f"no account for {phone[1:]}"
    who = make.contact(phone)
    make.campaign_message("failed", campaign=spring, contact=who, error_message=quoted)
    assert quoted in str(figures.stats(db, spring))
    erasure.remove(db, phone, at=make.at)
    assert not db.execute("select * from campaign_stats").fetchall()
    assert phone[1:] not in str(figures.stats(db, spring))


def test_a_draft_is_reckoned_anew_when_its_people_are(
    large: None, db: Connection, make: Make
) -> None:
    draft = make.campaign(people=3)
    erasure.remove(db, "+49150000001" + "11", at=make.at)
    assert figures.stats(db, draft)["causes"][0]["code"] == "removed"
    with immediate(db):
        campaigns.refresh(db, draft, at=make.at)
    assert figures.stats(db, draft)["causes"] == []
    assert (make.look(draft).skipped, make.look(draft).pending) == (0, 2)
    assert audits.audit(db, draft) == []


def test_the_audit_finds_a_figure_that_is_not_what_the_rows_say(
    db: Connection, make: Make, spring: Campaign
) -> None:
    figures.stats(db, spring)
    before = audits.audit(db, spring)
    assert not [finding for finding in before if "stats" in finding]
    with immediate(db):
        db.execute("update campaign_stats set told = json_set(told, '$.causes', json('[]'))")
    assert set(audits.audit(db, spring)) - set(before) == {
        "what stats keep is not what the rows say"
    }


def test_a_look_does_not_wait_for_whoever_writes(db: Connection, spring: Campaign) -> None:
    path = Path(db.execute("select file from pragma_database_list").fetchone()[0])
    other = connect(path)
    with immediate(other):
        assert figures.stats(db, spring)["causes"]
    assert figures.kept(db, spring) is None
    other.close()
    assert db.execute("pragma busy_timeout").fetchone()[0] == 30_000
