"""Campaigns in the file: made whole or not at all, found by what people type, told as promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make import CONTENT, Make
from pysqlite3.dbapi2 import Connection

from wabcast import drafts, locks
from wabcast.audience import Audience, AudienceKind
from wabcast.campaign import EDITABLE, CampaignStatus
from wabcast.drafts import Draft
from wabcast.errors import NotFound, Refused
from wabcast.store import campaigns, ledger
from wabcast.store.database import immediate

KEYS = """
id name description status account total_recipients pending queued messages_sent
messages_delivered messages_read messages_replied messages_failed in_doubt skipped
delivery_rate read_rate reply_rate failure_rate progress priority throttle scheduled_at
started_at paused_at completed_at reason created_at updated_at
"""


def test_a_campaign_in_json_is_the_contract(make: Make) -> None:
    told = campaigns.as_json(make.campaign(people=3))
    assert set(KEYS.split()) <= set(told)
    assert told["throttle"] == {
        "messagesPerMinute": 20,
        "batchSize": 100,
        "delayBetweenBatches": 5000,
        "concurrency": 10,
        "jitter": told["throttle"]["jitter"],
    }
    assert (told["status"], told["total_recipients"], told["pending"]) == ("draft", 3, 3)
    assert json.loads(json.dumps(told)) == told


def test_opted_out_and_blocked_people_are_never_chosen(make: Make) -> None:
    make.contact()
    make.contact(opted_out_at=make.at)
    make.contact(blocked_at=make.at)
    assert make.campaign().total_recipients == 1


def test_a_name_is_taken_once(db: Connection, make: Make) -> None:
    make.campaign("spring", people=1)
    with pytest.raises(Refused, match="already"):
        make.campaign("spring")
    assert db.execute("select count(*) from campaign_messages").fetchone()[0] == 1
    other = make.campaign("summer")
    with pytest.raises(Refused, match="already"):
        drafts.edit(db, other, "spring", Draft(), make.clock)


def test_a_campaign_is_found_by_name_id_and_prefix(db: Connection, make: Make) -> None:
    campaign = make.campaign("spring 50% *off*")
    for name in (campaign.name, campaign.id, campaign.id[:14]):
        assert campaigns.get(db, name).number == campaign.number
    for name in (campaign.id[:5], "", "*", "??????", "spring", campaign.id[:8] + "*"):
        with pytest.raises(NotFound):
            campaigns.get(db, name)


def test_a_prefix_of_two_is_no_name(db: Connection, make: Make) -> None:
    first, second = make.campaign("a"), make.campaign("b")
    shared = next(n for n in range(36) if first.id[: n + 1] != second.id[: n + 1])
    assert shared >= 6, "ids of one moment begin alike"
    with pytest.raises(NotFound, match="more than one"):
        campaigns.get(db, first.id[:shared])


def test_a_near_miss_is_told(db: Connection, make: Make) -> None:
    make.campaign("spring")
    with pytest.raises(NotFound) as raised:
        campaigns.get(db, "sprnig")
    assert "spring" in raised.value.hint


@pytest.mark.parametrize("status", CampaignStatus)
def test_only_what_stands_still_is_edited(
    db: Connection, make: Make, status: CampaignStatus
) -> None:
    campaign = make.campaign(status=status)
    if status in EDITABLE:
        assert drafts.edit(db, campaign, None, Draft(rate="40/m"), make.clock).rate == "40/m"
        return
    with pytest.raises(Refused):
        drafts.edit(db, campaign, None, Draft(rate="40/m"), make.clock)
    assert make.look(campaign).rate == "20/m"


@pytest.mark.parametrize("status", CampaignStatus)
def test_only_drafts_have_their_recipients_computed_afresh(
    db: Connection, make: Make, status: CampaignStatus
) -> None:
    campaign = make.campaign(people=2, status=status)
    make.contact()
    if status in (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED):
        now = drafts.refresh(db, campaign, make.clock)
        assert (now.total_recipients, now.pending) == (3, 3)
        return
    with pytest.raises(Refused):
        drafts.refresh(db, campaign, make.clock)
    assert make.look(campaign).total_recipients == 2


def test_a_running_campaign_is_not_deleted(db: Connection, db_path: Path, make: Make) -> None:
    campaign = make.campaign(people=2, status="running")
    with pytest.raises(Refused):
        drafts.delete(db, campaign, make.clock)
    db.execute("update campaigns set status = 'paused'")
    with locks.held(db_path, campaign), pytest.raises(Refused):
        drafts.delete(db, campaign, make.clock)
    drafts.delete(db, campaign, make.clock)
    assert db.execute("select count(*) from campaign_messages").fetchone()[0] == 0


def test_a_run_lets_go_only_of_its_own(db: Connection, make: Make) -> None:
    campaign = make.campaign(status="running", run_id="mine")
    with immediate(db):
        ledger.let_go(db, campaign.number, "another's")
        campaigns.hold(db, campaign.number, "another's", "something")
    assert make.look(campaign) == campaign
    with immediate(db):
        campaigns.hold(db, campaign.number, "mine", "pace 20/m")
    assert make.look(campaign).holding == "pace 20/m"
    with immediate(db):
        ledger.let_go(db, campaign.number, "mine")
    assert make.look(campaign).run_id is None
    assert make.look(campaign).holding is None


def test_the_seeds_events(db: Connection, make: Make) -> None:
    campaign = make.campaign(people=2)
    for verb in ("start", "pause", "resume", "complete"):
        if verb == "complete":
            db.execute("update campaign_messages set status = 'skipped'")
        with immediate(db):
            assert campaigns.move(db, campaign, verb, at=make.at, run="r", reason="why")
    rows = db.execute("select event, data from events order by id").fetchall()
    told = {row["event"]: json.loads(row["data"]) for row in rows}
    assert list(told) == [
        "campaign:created",
        "campaign:started",
        "campaign:paused",
        "campaign:resumed",
        "campaign:completed",
    ]
    assert all(data["campaignId"] == campaign.id for data in told.values())
    assert told["campaign:started"]["startedAt"] == make.at
    paused = told["campaign:paused"]
    assert (paused["processedCount"], paused["totalRecipients"]) == (0, 2)
    assert told["campaign:completed"]["campaign"]["name"] == "spring"
    assert told["campaign:completed"]["completedAt"]


def test_showing_a_campaign_reads_no_message(db: Connection, make: Make) -> None:
    """`show` stays quick at a million rows: the counters are columns."""
    make.campaign(people=3)
    for statement in (campaigns.BY_NUMBER, campaigns.BY_NAME):
        wanted = {"number": 1, "name": "spring"}
        plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, wanted))
        assert "campaign_messages" not in plan
        assert "SCAN" not in plan


def test_an_audience_is_taken_at_its_word(make: Make) -> None:
    one = make.contact("+4915100001111")
    make.contact("+4915100002222")
    chosen = Audience(AudienceKind.PHONES, phones=("+4915100001111",))
    campaign = make.campaign(audience=chosen, content=CONTENT)
    assert [message.contact_id for message in make.due(campaign)] == [one]
