"""A copy of the database sends nothing by itself: what must not break is that its campaigns come
up paused, and what was on the wire in doubt, until a person resumes.

The other one may still be sending, or has sent since; nothing in the copy can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wabcast.campaign import CampaignStatus
from wabcast.store import campaigns, ledger, schedules, whereabouts
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection

STRAYED = "is in a file that was copied, or moved here"

OLDER = "has sent more than this file knows: an older copy was put in its place"

RESTLESS = """
select number from campaigns
 where (status in ('running', 'scheduled') or (status = 'paused' and resume_at is not null))
   and test_of is null
 order by number
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
    whereabouts.belong(db)
    return calmed, queued


def meet(db: Connection, *, at: str) -> list[Campaign]:
    """Before anything is set in motion: calm the file if it is a copy; what that paused."""
    if not whereabouts.strayed(db):
        return []
    with immediate(db):
        if not whereabouts.strayed(db):
            return []  # another process was a moment earlier
        return calm(db, STRAYED, at=at)[0]


def warning(calmed: list[Campaign]) -> str:
    """What a person should know before they resume."""
    names = ", ".join(campaign.name for campaign in calmed[:5]) + (" ..." if calmed[5:] else "")
    doubtful = sum(campaign.in_doubt for campaign in calmed)
    doubt = f"; {doubtful:,} are in doubt" if doubtful else ""
    return (
        f"this file was copied, or moved here: nothing of {names} leaves until you resume it"
        f"{doubt}. If the other file still sends, or has sent since, people get it twice"
    )
