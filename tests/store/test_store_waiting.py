"""Who needs a person, and that it is said once an hour."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from conftest import StillClock
from make import Make

from wabcast.campaign import BY_A_PERSON, INTERRUPTED, PUT_BACK, TWICE, Campaign
from wabcast.store import campaigns, waiting
from wabcast.store.database import immediate


def pause(make: Make, campaign: Campaign, reason: str, *, resume_at: str | None = None) -> None:
    with immediate(make.db):
        if make.look(campaign).status == "paused":
            assert campaigns.move(make.db, campaign, "resume", at=make.at, run="r")
        assert campaigns.move(
            make.db, campaign, "pause", at=make.at, reason=reason, resume_at=resume_at
        )


def told(make: Make) -> list[str]:
    return [campaign.name for campaign in waiting.remind(make.db, make.clock.now())]


def test_it_is_said_once_an_hour_and_of_each_pause(make: Make, clock: StillClock) -> None:
    campaign = make.campaign(status="running")
    assert told(make) == []
    pause(make, campaign, "190 the token is dead")
    assert told(make) == ["spring"]
    assert told(make) == []
    clock.advance(timedelta(minutes=59))
    assert told(make) == []
    clock.advance(timedelta(minutes=1))
    assert told(make) == ["spring"]
    clock.advance(timedelta(minutes=5))
    pause(make, campaign, "132015 the template is paused")
    assert told(make) == ["spring"], "another pause is other news"
    clock.advance(timedelta(minutes=5))
    assert told(make) == []
    rows = make.db.execute("select data from events where event = 'campaign:waiting' order by id")
    reasons = [json.loads(row[0])["reason"] for row in rows]
    assert reasons == [*["190 the token is dead"] * 2, "132015 the template is paused"]


@pytest.mark.parametrize(
    ("reason", "resume_at"),
    [
        (BY_A_PERSON, None),
        (PUT_BACK, None),
        (INTERRUPTED.format("SIGINT"), None),
        (TWICE, None),
        ("outside the window", "2026-11-05T20:00:00.000Z"),
    ],
)
def test_a_persons_own_pause_and_one_that_ends_by_itself_need_nobody(
    make: Make, reason: str, resume_at: str | None
) -> None:
    campaign = make.campaign(status="running")
    pause(make, campaign, reason, resume_at=resume_at)
    assert told(make) == []
    assert waiting.listed(make.db) == []


def test_a_clock_that_was_wrong_silences_nothing(make: Make, clock: StillClock) -> None:
    campaign = make.campaign(status="running")
    pause(make, campaign, "190 the token is dead")
    clock.advance(timedelta(days=30))
    assert told(make) == ["spring"]
    clock.advance(-timedelta(days=30))
    assert told(make) == ["spring"]
