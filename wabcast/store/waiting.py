"""Campaigns that need a person: those the program paused, and no `run` goes on with.

A campaign that a person paused, or whose messages a person put back, is not among them: that
person knows. Nor is one that `run` resumes by itself (`resume_at`).
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast import events as words
from wabcast.campaign import PERSONS_REASONS, Campaign
from wabcast.clock import text
from wabcast.events import Event
from wabcast.store import campaigns, events
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection

EVERY = timedelta(hours=1)
"""How often a campaign that needs a person is told of."""

NEEDS_A_PERSON = """
 where c.status = 'paused' and c.resume_at is null
   and not exists (select 1 from json_each(:persons) where instr(c.reason, value) = 1)
"""

# An event of before the pause was about another one; one of the future was written by a clock
# that was wrong.
UNTOLD = """
   and not exists (
       select 1 from events e
        where e.campaign_id = c.id and e.event = 'campaign:waiting'
          and e.at > :since and e.at <= :now and e.at >= c.paused_at)
"""

WAITING = campaigns.SELECT + NEEDS_A_PERSON + " order by c.number"
UNTOLD_OF = campaigns.SELECT + NEEDS_A_PERSON + UNTOLD + " order by c.number"


def listed(db: Connection) -> list[Campaign]:
    """All campaigns that need a person."""
    return campaigns.found(db, WAITING, {"persons": json.dumps(PERSONS_REASONS)})


def remind(db: Connection, now: datetime) -> list[Campaign]:
    """Those that nobody was told of for an hour; each is told of in an event from now on."""
    at = text(now)
    wanted = {
        "persons": json.dumps(PERSONS_REASONS),
        "since": text(now - EVERY),
        "now": at,
    }
    if not campaigns.found(db, UNTOLD_OF, wanted):
        return []
    with immediate(db):  # asked again: another process may have been a moment earlier
        untold = campaigns.found(db, UNTOLD_OF, wanted)
        for campaign in untold:
            told = {
                "campaignId": campaign.id,
                "reason": campaign.reason,
                "since": campaign.paused_at,
            }
            events.add(db, Event(words.CAMPAIGN_WAITING, campaign.id, told), at=at)
    return untold
