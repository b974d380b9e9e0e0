"""What becomes of a copy of the database when it is to send: what would send by itself is paused,
and what was on the wire is in doubt.

The other one may still be sending, or has sent since; nothing in the copy can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wabcast.campaign import CampaignStatus
from wabcast.store import campaigns, ledger, schedules

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

RESTLESS = """
select number from campaigns
 where (status in ('running', 'scheduled') or (status = 'paused' and resume_at is not null))
   and test_of is null
 order by number
"""

UNFINISHED = """
select number from campaigns
 where status in ('draft', 'scheduled', 'running', 'paused') order by number
"""

SLOTS = """
select id, last_slot_at from campaigns where status in ('draft', 'scheduled', 'running', 'paused')
"""

QUEUED = "select distinct campaign_id from campaign_messages where status = 'queued'"

NOBODYS = "update campaigns set run_id = null, holding = null"


def calm(db: Connection, reason: str, *, at: str) -> tuple[list[Campaign], int]:
    """Pause what would send, in the caller's transaction; which, and how many are in doubt."""
    queued = sum(ledger.take_over(db, row[0], "") for row in db.execute(QUEUED).fetchall())
    calmed = []
    for (number,) in db.execute(RESTLESS).fetchall():
        campaign = campaigns.by_number(db, number)
        if campaign.status is CampaignStatus.PAUSED:
            schedules.stay(db, campaign, reason=reason, at=at)
        else:
            campaigns.move(db, campaign, "pause", at=at, reason=reason)
        calmed.append(campaigns.by_number(db, number))
    db.execute(NOBODYS)
    return calmed, queued


def unfinished(db: Connection) -> list[Campaign]:
    """The campaigns that are not over."""
    return [campaigns.by_number(db, row[0]) for row in db.execute(UNFINISHED).fetchall()]


def slots(db: Connection) -> list[tuple[str, int]]:
    """The id of each campaign that is not over, and its last slot in microseconds."""
    return [(str(row[0]), int(row[1])) for row in db.execute(SLOTS)]
