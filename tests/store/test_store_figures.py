"""What stats tell is what the rows say, whatever wrote them, and no row is read for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from conftest import StillClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make import Make, nobody
from pysqlite3.dbapi2 import Connection

from wabcast import drafts, metrics
from wabcast.campaign import Campaign
from wabcast.clock import parse, text
from wabcast.delivery import MessageStatus
from wabcast.store import audits, campaigns, decisions, erasure, figures, tallies
from wabcast.store.database import immediate
from wabcast.store.migrations import migrations

UNHAPPY = ("failed", "in_doubt", "skipped")


@pytest.fixture
def spring(db: Connection, make: Make) -> Campaign:
    campaign = make.campaign()
    for status in MessageStatus:
        make.campaign_message(status, campaign=campaign, pricing="marketing/regular")
    return campaign


def told_by_the_rows(db: Connection, number: int) -> dict[str, Any]:
    """The figures, by another way than theirs."""
    rows = [
        dict(row)
        for row in db.execute("select * from campaign_messages where campaign_id = ?", (number,))
    ]

    def lengths(column: str) -> dict[str, float | None]:
        found = []
        for row in rows:
            if row[column] is not None and row["sent_at"] is not None:
                after = (parse(row[column]) - parse(row["sent_at"])).total_seconds()
                found.append(round(max(after, 0.0), 2))
        return metrics.percentiles(sorted(Counter(found).items()))

    sent = [row["sent_at"] for row in rows if row["sent_at"] is not None]
    return {
        "causes": Counter(
            (row["status"], row["error_code"] or "", row["error_message"] or "")
            for row in rows
            if row["status"] in UNHAPPY
        ),
        "delivery_seconds": lengths("delivered_at"),
        "read_seconds": lengths("read_at"),
        "pricing": Counter(row["pricing"] for row in rows if row["pricing"] is not None),
        "sending": (min(sent, default=None), max(sent, default=None)),
        "sent": len(sent),
    }


def the_same_as_the_rows(db: Connection, campaign: Campaign) -> None:
    told, rows = figures.stats(db, campaign), told_by_the_rows(db, campaign.number)
    causes = {(c["status"], c["code"], c["reason"]): c["people"] for c in told["causes"]}
    assert causes == rows["causes"]
    assert told["delivery_seconds"] == rows["delivery_seconds"]
    assert told["read_seconds"] == rows["read_seconds"]
    prices = {f"{p['category'] or ''}/{p['type'] or ''}": p["messages"] for p in told["pricing"]}
    assert prices == rows["pricing"]
    assert (told["sending"]["first"], told["sending"]["last"]) == rows["sending"]
    assert sum(told["sending"]["line"]) == rows["sent"]
    assert sum(step["sent"] for step in told["by_time"]) == rows["sent"]
    assert tallies.agree(db, campaign.number)


def test_a_look_reads_no_row_of_the_ledger(db: Connection, spring: Campaign) -> None:
    asked: list[str] = []
    db.set_trace_callback(asked.append)
    figures.stats(db, spring)
    db.set_trace_callback(None)
    assert any("campaign_tallies" in statement for statement in asked)
    # Those with variants alone; nothing gives anybody one yet.
    assert [one for one in asked if "campaign_messages" in one and "variant" not in one] == []


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_retry_of_what_had_left_makes_no_look_walk_for_good(
    db: Connection, make: Make, clock: StillClock, which: int
) -> None:
    """The first, one in the middle, the last."""
    campaign = make.campaign()
    times = [text(clock.now() + timedelta(seconds=nr)) for nr in range(4)]
    ids = [make.campaign_message("failed", campaign=campaign, sent_at=at) for at in times]
    taken = "update campaign_messages set status = 'pending', sent_at = null where id = ?"
    sent = "update campaign_messages set status = 'sent', sent_at = ? where id = ?"
    db.execute(taken, (ids[which],))
    the_same_as_the_rows(db, campaign)
    db.execute(sent, (text(clock.now() + timedelta(seconds=9)), ids[which]))
    the_same_as_the_rows(db, campaign)
    row = db.execute(figures.KNOWN_SPAN, {"number": campaign.number}).fetchone()
    assert row["first"]
    assert row["last"]


@pytest.mark.parametrize("statement", [figures.CAUSES, figures.COUNTED, figures.TIMES])
def test_what_was_kept_is_read_in_its_own_order(db: Connection, statement: str) -> None:
    wanted = {"number": 1, "kind": "sent"}
    plan = [row[3] for row in db.execute("explain query plan " + statement, wanted)]
    assert all("USING PRIMARY KEY (campaign_id=? AND kind=?)" in step for step in plan)


def test_reasons_that_name_the_person_are_many_and_told_in_bounds(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "WORDINGS", 5)
    campaign = make.campaign()
    for nr in range(20):
        make.campaign_message(
            "failed", campaign=campaign, error_code="content", error_message=f"{nr} is no link"
        )
    make.campaign_message("skipped", campaign=campaign, error_code="missing", error_message="city")
    told = figures.stats(db, campaign)["causes"]
    assert (told[0]["reason"], told[0]["people"]) == (figures.OTHERS, 15)
    assert len(told) == 5 + 1 + 1
    assert sum(cause["people"] for cause in told) == 21


CHANGES: dict[str, Callable[[Make, Campaign], Any]] = {
    "retried": lambda make, campaign: make.retry(campaign),
    "settled": lambda make, campaign: make.settle(campaign, "failed"),
    "cancelled": lambda make, campaign: make.cancel(campaign),
    "taken over": lambda make, campaign: decisions.bury(make.db, campaign, nobody),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_told_follows_what_the_ledger_does(
    db: Connection, make: Make, spring: Campaign, change: str
) -> None:
    make.campaign_message("failed", campaign=spring, sent_at="2026-11-05T09:00:00.000Z")
    the_same_as_the_rows(db, spring)
    before = figures.stats(db, spring)
    CHANGES[change](make, spring)
    assert figures.stats(db, spring)["causes"] != before["causes"]
    the_same_as_the_rows(db, spring)


COLUMNS: dict[str, list[str | None]] = {
    "status": [status.value for status in MessageStatus],
    "error_code": [None, "131026", "crash"],
    "error_message": [None, "cannot be delivered", 'it said "no" to +4915112345678'],
    "pricing": [None, "marketing/regular", "service/"],
}
TIMES = ("sent_at", "delivered_at", "read_at", "replied_at", "failed_at")


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_statement_changes_a_row_unseen(
    db: Connection, make: Make, clock: StillClock, data: st.DataObject
) -> None:
    """Whatever is written, and taken back, in whatever order: as the rows say in the end."""
    campaign = make.campaign(clock.new_id(), people=3)
    whole = st.sampled_from([0, 0.25, 1, 9.99, 61, 3_599.5, 7_200, 90_000, 1_980_000])
    moments = st.none() | whole.map(lambda after: text(clock.now() + timedelta(seconds=after)))
    for _ in range(data.draw(st.integers(1, 8))):
        column = data.draw(st.sampled_from([*COLUMNS, *TIMES]))
        value = data.draw(st.sampled_from(COLUMNS[column]) if column in COLUMNS else moments)
        few = data.draw(st.integers(1, 3))
        with immediate(db):
            db.execute(
                f"update campaign_messages set {column} = :value"  # noqa: S608
                " where id in (select id from campaign_messages where campaign_id = :number"
                " order by id limit :few)",
                {"value": value, "number": campaign.number, "few": few},
            )
    assert tallies.agree(db, campaign.number)
    rows = told_by_the_rows(db, campaign.number)
    told = figures.stats(db, campaign)
    assert (told["sending"]["first"], told["sending"]["last"]) == rows["sending"]
    assert sum(cause["people"] for cause in told["causes"]) == rows["causes"].total()
    nothing = "select count(*) from campaign_tallies where messages < 1"
    assert db.execute(nothing).fetchone()[0] == 0


def test_an_older_file_is_counted_when_it_is_migrated(
    db: Connection, make: Make, tmp_path: Path, spring: Campaign
) -> None:
    for after in (0, 90, 10_000, 400_000):
        when = text(make.clock.now() + timedelta(seconds=after))
        make.campaign_message("read", campaign=spring, sent_at=when, delivered_at=when)
    make.campaign_message("failed", campaign=make.campaign("autumn"))
    old = sqlite_utils.Database(tmp_path / "old.db")
    old.conn.row_factory = db.row_factory
    migrations.apply(old, stop_before="m008_tallies")
    for table in ("accounts", "contacts", "campaigns", "campaign_messages"):
        known = {row[1] for row in old.execute(f"pragma table_info({table})")}
        for row in db.execute(f"select * from {table}").fetchall():  # noqa: S608
            told = {key: row[key] for key in row.keys() if key in known}  # noqa: SIM118
            names = ", ".join(told)
            marks = ", ".join(f":{name}" for name in told)
            old.execute(f"insert into {table} ({names}) values ({marks})", told)  # noqa: S608
    migrations.apply(old)
    for campaign in campaigns.listed(db):
        assert tallies.agree(old.conn, campaign.number)
        assert figures.stats(old.conn, campaign) == figures.stats(db, campaign)
    assert figures.stats(old.conn, spring)["by_time"]
    old.conn.close()


@pytest.mark.parametrize(
    ("code", "quoted"),
    [
        ("63024", "no account for 5511987654321"),
        ("63024", "+551187654321 is no number"),  # as WhatsApp spells it
        ("content", "photo: 'ann@example.com' is not a link"),
    ],
)
def test_a_person_who_is_removed_stands_in_no_figure_either(
    db: Connection, make: Make, spring: Campaign, code: str, quoted: str
) -> None:
    who = make.contact("+5511987654321")
    make.campaign_message(
        "failed", campaign=spring, contact=who, error_code=code, error_message=quoted
    )
    before = audits.audit(db, spring)
    assert quoted in str(figures.stats(db, spring))
    erasure.remove(db, "+5511987654321", at=make.at, clock=make.clock)
    for table, column in (("campaign_tallies", "value"), ("campaign_messages", "error_message")):
        kept = f"select count(*) from {table} where instr({column}, ?)"  # noqa: S608
        assert db.execute(kept, (quoted,)).fetchone()[0] == 0
    assert quoted not in str(figures.stats(db, spring))
    assert audits.audit(db, spring) == before


def test_a_draft_is_counted_anew_when_its_people_are(db: Connection, make: Make) -> None:
    draft = make.campaign(people=3)
    erasure.remove(db, "+49150000001" + "11", at=make.at, clock=make.clock)
    assert figures.stats(db, draft)["causes"][0]["code"] == "removed"
    drafts.refresh(db, draft, make.clock)
    assert figures.stats(db, draft)["causes"] == []
    assert (make.look(draft).skipped, make.look(draft).pending) == (0, 2)
    assert audits.audit(db, draft) == []


def test_a_campaign_takes_its_figures_with_it(db: Connection, make: Make, spring: Campaign) -> None:
    with immediate(db):
        db.execute("delete from campaigns where number = ?", (spring.number,))
    assert db.execute("select count(*) from campaign_tallies").fetchone()[0] == 0


@pytest.mark.parametrize(
    "harm",
    [
        "update campaign_tallies set messages = messages + 1 where kind = 'read_after'",
        "delete from campaign_tallies where kind = 'failed'",
        "insert into campaign_tallies values (1, 'skipped', '[\"x\",\"y\"]', 1)",
        "update campaigns set last_sent_at = '2027-01-01T00:00:00.000Z'",
    ],
)
def test_the_audit_finds_a_figure_that_is_not_what_the_rows_say(
    db: Connection, spring: Campaign, harm: str
) -> None:
    before = audits.audit(db, spring)
    assert not [finding for finding in before if "stats" in finding]
    with immediate(db):
        db.execute(harm)
    assert set(audits.audit(db, spring)) - set(before) == {
        "what stats keep is not what the rows say"
    }


def test_what_was_counted_coarsely_is_not_shown_finely(
    db: Connection, make: Make, clock: StillClock
) -> None:
    """A canary failed, and all were sent days later, within minutes: kept by the hour."""
    campaign = make.campaign()
    make.campaign_message("failed", campaign=campaign, sent_at=make.at)
    make.retry(campaign)
    for seconds in range(0, 600, 60):
        when = text(clock.now() + timedelta(days=4, seconds=seconds))
        make.campaign_message("sent", campaign=campaign, sent_at=when)
    told = figures.stats(db, campaign)
    assert [step["sent"] for step in told["by_time"]] == [10] == told["sending"]["line"]
    began, at = parse(told["sending"]["first"]), parse(told["by_time"][0]["at"])
    assert at <= began < at + timedelta(hours=1)
    the_same_as_the_rows(db, campaign)


def test_what_is_no_time_stops_nothing(db: Connection, make: Make, spring: Campaign) -> None:
    """Somebody wrote it by hand."""
    number = make.campaign_message("sent", campaign=spring)
    for value in ("soon", ""):
        db.execute("update campaign_messages set delivered_at = ? where id = ?", (value, number))
        assert tallies.agree(db, spring.number)
        assert figures.stats(db, spring)["delivery_seconds"]["p50"] == 0.0


def test_one_reason_for_one_person_is_one_row_and_not_a_row_more(
    db: Connection, make: Make, spring: Campaign
) -> None:
    wanted = {"number": spring.number}
    count = "select count(*) from campaign_tallies where campaign_id = :number"
    before = db.execute(count, wanted).fetchone()[0]
    for _ in range(20):
        make.campaign_message("failed", campaign=spring)
    assert db.execute(count, wanted).fetchone()[0] == before
    kept = db.execute(
        "select value, messages from campaign_tallies where campaign_id = :number"
        " and kind = 'failed'",
        wanted,
    ).fetchall()
    assert [(json.loads(value), n) for value, n in kept] == [(["test", "as the test wants it"], 21)]
