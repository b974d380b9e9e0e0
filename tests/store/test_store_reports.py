"""What is read out of the ledger equals its rows, however they are asked."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from conftest import StillClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import metrics
from wabcast.campaign import Campaign
from wabcast.clock import text
from wabcast.delivery import MessageStatus
from wabcast.store import campaigns, erasure, events, figures, reports
from wabcast.store.database import immediate


@pytest.fixture
def spring(make: Make) -> Campaign:
    return make.campaign(status="running", run_id="run")


def later(clock: StillClock, seconds: float) -> str:
    return text(clock.now() + timedelta(seconds=seconds))


def test_stats_has_the_keys_of_show_and_those_of_its_docstring(
    db: Connection, make: Make, spring: Campaign
) -> None:
    make.campaign_message("read", campaign=spring)
    told = figures.stats(db, spring)
    shown = campaigns.as_json(make.look(spring))
    assert {key: told[key] for key in shown} == shown
    assert told.keys() - shown.keys() == {
        *("causes", "delivery_seconds", "read_seconds", "by_time", "pricing", "variants"),
        "sending",
    }
    assert metrics.rates(told) == {name: told[name] for name in metrics.rates(told)}
    assert not db.in_transaction


def test_a_draft_has_stats_and_a_report(db: Connection, make: Make) -> None:
    draft = make.campaign()
    told = reports.report(db, draft)
    assert told["delivery_seconds"] == {"p50": None, "p90": None, "p99": None}
    assert (told["by_time"], told["causes"], told["pricing"], told["variants"]) == ([], [], [], [])
    assert told["sending"] == {"first": None, "last": None, "line": []}
    assert told["said"] == "Hello"
    assert [event["event"] for event in told["timeline"]] == ["campaign:created"]


def test_what_a_provider_numbers_is_one_cause_and_our_own_words_are_several(
    db: Connection, make: Make, spring: Campaign
) -> None:
    def put(status: str, code: str, reason: str | None) -> None:
        make.campaign_message(status, campaign=spring, error_code=code, error_message=reason)

    for who in range(3):
        put("failed", "131026", f"cannot be delivered ({who})")
    put("failed", "131026", "cannot be delivered (2)")
    put("skipped", "missing", "no value for city")
    put("skipped", "missing", "no value for firstName")
    put("skipped", "missing", "no value for firstName")
    put("in_doubt", "131026", "no answer")
    put("failed", "x", None)
    assert figures.causes(db, spring) == [
        {
            "status": "failed",
            "code": "131026",
            "reason": "cannot be delivered (2)",
            "people": 4,
        },
        {"status": "skipped", "code": "missing", "reason": "no value for firstName", "people": 2},
        {"status": "failed", "code": "x", "reason": "", "people": 1},
        {"status": "in_doubt", "code": "131026", "reason": "no answer", "people": 1},
        {"status": "skipped", "code": "missing", "reason": "no value for city", "people": 1},
    ]


def test_percentiles_are_from_the_sending_on_and_never_negative(
    db: Connection, make: Make, clock: StillClock, spring: Campaign
) -> None:
    for number in range(1, 101):
        make.campaign_message(
            "read",
            campaign=spring,
            delivered_at=later(clock, number / 20),
            read_at=later(clock, number * 60),
        )
    told = figures.stats(db, spring)
    assert told["delivery_seconds"] == {"p50": 2.5, "p90": 4.5, "p99": 4.95}
    assert told["read_seconds"] == {"p50": 3000.0, "p90": 5400.0, "p99": 5940.0}
    # WhatsApp tells whole seconds: delivered before it was sent, by its clock.
    other = make.campaign("other", account="other")
    make.campaign_message("delivered", campaign=other, delivered_at=later(clock, -0.9))
    assert figures.stats(db, other)["delivery_seconds"]["p99"] == 0.0


moments = st.floats(0, 30 * 86_400).map(lambda seconds: round(seconds, 3))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.tuples(moments, st.none() | moments, st.none() | moments), min_size=1, max_size=12
    )
)
def test_nobody_is_lost_between_the_steps_of_time(
    db: Connection,
    make: Make,
    clock: StillClock,
    messages: list[tuple[float, float | None, float | None]],
) -> None:
    name = clock.new_id()
    campaign = make.campaign(name, account=name)
    with immediate(db):
        db.execute("delete from campaign_messages where campaign_id = ?", (campaign.number,))
    for sent, delivered, read in messages:
        make.campaign_message(
            "sent",
            campaign=campaign,
            sent_at=later(clock, sent),
            delivered_at=None if delivered is None else later(clock, sent + delivered),
            read_at=None if read is None else later(clock, sent + read),
        )
    told = figures.stats(db, campaign)
    steps = told["by_time"]
    assert sum(step["sent"] for step in steps) == len(messages) == sum(told["sending"]["line"])
    assert sum(step["delivered"] for step in steps) == sum(m[1] is not None for m in messages)
    assert sum(step["read"] for step in steps) == sum(m[2] is not None for m in messages)
    assert 1 <= len(steps) <= figures.BUCKETS + 2
    assert len(told["sending"]["line"]) <= figures.SPARKS
    assert [step["at"] for step in steps] == sorted({step["at"] for step in steps})
    assert steps[0]["at"] <= told["sending"]["first"] == min(later(clock, m[0]) for m in messages)
    assert told["sending"]["last"] == max(later(clock, m[0]) for m in messages)
    # Whatever a time was counted with, it falls into the step that it belongs to.
    bounds = [step["at"][:19] for step in steps]
    after: dict[str, list[float | None]] = {"sent": [0.0] * len(messages)}
    after |= {"delivered": [m[1] for m in messages], "read": [m[2] for m in messages]}
    for kind, seconds in after.items():
        times = [m[0] + more for m, more in zip(messages, seconds, strict=True) if more is not None]
        where = Counter(max(0, bisect_right(bounds, later(clock, at)[:19]) - 1) for at in times)
        assert [step[kind] for step in steps] == [where[nr] for nr in range(len(steps))], kind


def test_prices_and_variants_are_counted(db: Connection, make: Make, spring: Campaign) -> None:
    for pricing in ("marketing/regular", "marketing/regular", "service/", None):
        make.campaign_message("delivered", campaign=spring, pricing=pricing, variant="A")
    make.campaign_message("failed", campaign=spring, variant="B")
    told = figures.stats(db, spring)
    assert told["pricing"] == [
        {"category": "marketing", "type": "regular", "messages": 2},
        {"category": "service", "type": None, "messages": 1},
    ]
    assert [(v["variant"], v["delivery_rate"], v["failure_rate"]) for v in told["variants"]] == [
        ("A", 100.0, 0.0),
        ("B", None, 100.0),
    ]


def test_a_report_counts_replies_and_the_opt_outs_that_followed(
    db: Connection, make: Make, clock: StillClock, spring: Campaign
) -> None:
    def opted_out(seconds: float, status: str = "replied") -> int:
        return make.campaign_message(
            status,
            campaign=spring,
            contact=make.contact(opted_out_at=later(clock, seconds), opt_out_reason="wrote STOP"),
            content=json.dumps({"type": "text", "text": {"body": "Hi Ann"}}),
        )

    first = opted_out(60)
    opted_out(-60)  # before it was sent: this campaign has nothing to do with it
    opted_out(7200)
    opted_out(8 * 86_400)
    opted_out(60, status="failed")
    with immediate(db):
        db.execute(
            "update campaigns set status = 'completed', completed_at = ?", (later(clock, 3600),)
        )
        for number, kind in enumerate(("text", "text", "button")):
            db.execute(
                "insert into inbound_messages (campaign_message_id, whatsapp_message_id, kind,"
                " received_at) values (?, ?, ?, ?)",
                (first, f"w{number}", kind, later(clock, 60)),
            )
    told = reports.report(db, spring)
    assert told["opt_outs"] == {"during": 1, "after": 1}
    assert told["replies"] == {
        "people": 4,
        "messages": 3,
        "kinds": [{"kind": "text", "messages": 2}, {"kind": "button", "messages": 1}],
    }
    assert told["said"] == "Hi Ann"


def test_the_timeline_is_the_log_without_progress_or_else_the_times_of_the_row(
    db: Connection, make: Make, spring: Campaign
) -> None:
    from wabcast.events import CAMPAIGN_PROGRESS, Event

    with immediate(db):
        events.add(db, Event(CAMPAIGN_PROGRESS, spring.id, {}), at=make.at)
        campaigns.move(db, spring, "pause", at=make.at, reason="by hand")
    timeline = reports.report(db, spring)["timeline"]
    assert [(event["event"], event["reason"]) for event in timeline] == [
        ("campaign:created", None),
        ("campaign:paused", "by hand"),
    ]
    with immediate(db):
        db.execute("delete from events")
    assert [e["event"] for e in reports.report(db, spring)["timeline"]] == [
        "campaign:created",
        "campaign:paused",
    ]


def test_every_recipient_comes_once_the_removed_ones_too(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAGE", 3)
    spring = make.campaign(people=10)
    for row in list(reports.recipients(db, spring))[2:7]:
        erasure.remove(db, row["phone"], at=make.at, clock=make.clock)
    rows = list(reports.recipients(db, spring))
    assert len({row["id"] for row in rows}) == len(rows) == 10
    assert [row["phone"] is None for row in rows] == [False] * 5 + [True] * 5
    assert len(list(reports.recipients(db, spring, ["skipped"]))) == 5
    assert not list(reports.recipients(db, spring, ["read"]))


def test_a_page_of_recipients_sorts_nobody(db: Connection, make: Make, spring: Campaign) -> None:
    wanted = {"number": 1, "after": 0, "statuses": None, "limit": 10}
    for statement in (reports.RECIPIENTS, reports.REMOVED):
        plan = [row[3] for row in db.execute("explain query plan " + statement, wanted)]
        assert plan[0].startswith("SEARCH m USING INDEX sqlite_autoindex_campaign_messages_1")
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan


def test_the_names_of_the_columns_are_not_sorted_in_memory(db: Connection) -> None:
    plan = [row[3] for row in db.execute("explain query plan " + reports.ATTRIBUTES, {"number": 1})]
    assert not any("TEMP B-TREE" in step for step in plan)


def test_show_reads_one_row_of_campaigns_and_none_of_the_ledger(db: Connection) -> None:
    wanted: dict[str, Any] = {"name": "spring", "number": 1}
    for statement in (campaigns.BY_NAME, campaigns.BY_NUMBER):
        plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, wanted))
        assert "SCAN" not in plan
        assert "campaign_messages" not in plan


@pytest.mark.parametrize("status", MessageStatus)
def test_faults_are_failures_doubts_and_skips_that_somebody_could_mend(
    db: Connection, make: Make, spring: Campaign, status: MessageStatus
) -> None:
    make.campaign_message(status, campaign=spring)
    make.campaign_message("skipped", campaign=spring, error_code="missing")
    mine = status in (MessageStatus.FAILED, MessageStatus.IN_DOUBT)
    assert reports.faults(db, make.look(spring)) == 1 + mine
