"""The row and the rule agree: one table is the function and the guard of the SQL."""

from __future__ import annotations

import itertools

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import (
    EDITABLE,
    FINISHED,
    LIFECYCLE,
    CampaignStatus,
    allowed,
    refusal,
)
from wabcast.errors import Busy, Refused
from wabcast.store import campaigns
from wabcast.store.database import immediate

EVERY_MOVE = [*itertools.product(CampaignStatus, LIFECYCLE)]


@pytest.mark.parametrize(("status", "verb"), EVERY_MOVE)
def test_the_row_and_the_rule_agree_on_every_move(
    db: Connection, make: Make, status: CampaignStatus, verb: str
) -> None:
    campaign = make.campaign(status=status, run_id="old")
    with immediate(db):
        moved = campaigns.move(db, campaign, verb, at=make.at, run="new", reason="why")
    now = make.look(campaign)
    assert moved is allowed(verb, status)
    assert now.status is (LIFECYCLE[verb][1] if moved else status)
    events = db.execute("select event from events where event <> 'campaign:created'").fetchall()
    assert len(events) <= 1
    if not moved:
        assert not events
        assert now == campaign
        return
    assert now.reason == "why"
    assert (now.started_at is not None) is (now.status is CampaignStatus.RUNNING)
    assert (now.paused_at is not None) is (now.status is CampaignStatus.PAUSED)
    assert (now.completed_at is not None) is (now.status in FINISHED)
    if now.status is CampaignStatus.RUNNING:
        assert now.run_id == "new"
    if verb in ("pause", "cancel"):
        assert now.run_id == "old"  # its run still has outcomes to record


@pytest.mark.parametrize("verb", LIFECYCLE)
def test_a_fence_lets_only_its_own_run_move_the_row(db: Connection, make: Make, verb: str) -> None:
    status = min(LIFECYCLE[verb][0])
    campaign = make.campaign(status=status, run_id="mine")
    with immediate(db):
        assert not campaigns.move(db, campaign, verb, at=make.at, fence="another's")
    assert make.look(campaign) == campaign
    with immediate(db):
        assert campaigns.move(db, campaign, verb, at=make.at, fence="mine")


@pytest.mark.parametrize(("status", "verb"), EVERY_MOVE)
def test_a_refusal_names_the_campaign_and_a_way_out(status: CampaignStatus, verb: str) -> None:
    said = refusal(verb, "spring", status)
    assert "spring" in said.message
    assert said.hint
    busy = (verb, status) == ("start", CampaignStatus.RUNNING)
    assert isinstance(said, Busy if busy else Refused)


def test_the_seeds_words() -> None:
    draft, paused = CampaignStatus.DRAFT, CampaignStatus.PAUSED
    assert refusal("start", "x", CampaignStatus.RUNNING).message.startswith(
        "Campaign is already running"
    )
    assert refusal("start", "x", paused).message.startswith(
        "Cannot start campaign with status: paused"
    )
    assert refusal("resume", "x", draft).message.startswith("Only paused campaigns can be resumed")
    assert refusal("pause", "x", draft).message.startswith(
        "Cannot pause campaign with status: draft"
    )


def test_every_state_can_be_reached_and_only_cancelled_is_the_end() -> None:
    reached = {CampaignStatus.DRAFT} | {to for _, to in LIFECYCLE.values()}
    assert reached == set(CampaignStatus)
    left = frozenset[CampaignStatus]().union(*(came for came, _ in LIFECYCLE.values()))
    assert set(CampaignStatus) - left == {CampaignStatus.CANCELLED}
    assert not EDITABLE & FINISHED
