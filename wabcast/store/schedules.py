"""What is due, as the file has it: times that have come, and the guarded steps of a recurrence.

What must not break: an occurrence is fired by one statement that names the time it expects, in
the transaction that makes its copy, so that two processes, or one that dies, never fire twice.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.campaign import Campaign
from wabcast.clock import text
from wabcast.store import campaigns

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection

AHEAD = timedelta(days=1)
"""A mark of ours that lies further in the future was made by a clock that was wrong."""

DUE = """
select number from campaigns
 where status = 'running'
    or (status = 'scheduled' and scheduled_at <= :now)
    or (status = 'paused' and resume_at <= :now)
    or (status = 'paused' and resume_at is not null and paused_at > :ahead)
 order by case priority when 'high' then 0 when 'normal' then 1 else 2 end,
          coalesce(resume_at, scheduled_at, started_at), number
"""

FIRED = """
update campaigns
   set scheduled_at = coalesce(:next, scheduled_at), last_fired_at = :fired, updated_at = :at
 where number = :number and status = 'scheduled' and scheduled_at = :expected
"""

STRAYED = """
select number from campaigns
 where status = 'scheduled' and repeat is not null and last_fired_at > :ahead
"""

PLAN = "update campaigns set scheduled_at = :at, last_fired_at = :fired where number = :number"

# A run that paused until later is resumed by `wabcast run`; a person's pause is not.
STAY = """
update campaigns set resume_at = null, reason = :reason, paused_at = :at, updated_at = :at
 where number = :number and status = 'paused' and resume_at is not null
"""

# The reason stays: whoever looks before the run takes it sees why it was paused.
RESUME_NOW = """
update campaigns set resume_at = :at, updated_at = :at where number = :number and status = 'paused'
"""


def due(db: Connection, now: datetime) -> list[Campaign]:
    """Campaigns whose time has come, and all that say they run: by priority, then by time."""
    wanted = {"now": text(now), "ahead": text(now + AHEAD)}
    return [campaigns.by_number(db, row[0]) for row in db.execute(DUE, wanted).fetchall()]


def strayed(db: Connection, now: datetime) -> list[Campaign]:
    """Recurring campaigns that last fired in what is still the future: the clock was wrong."""
    wanted = {"ahead": text(now + AHEAD)}
    return [campaigns.by_number(db, row[0]) for row in db.execute(STRAYED, wanted).fetchall()]


def fired(
    db: Connection,
    campaign: Campaign,
    *,
    occurrence: datetime,
    following: datetime | None,
    at: str,
) -> bool:
    """Note that `occurrence` has fired and when the next one is; False where it did already.

    Inside the caller's transaction. Without a `following` the caller ends the schedule.
    """
    row = {
        "number": campaign.number,
        "expected": campaign.scheduled_at,
        "fired": text(occurrence),
        "next": None if following is None else text(following),
        "at": at,
    }
    return bool(db.execute(FIRED, row).rowcount)


def plan(db: Connection, campaign: int, *, at: str, fired: str | None = None) -> None:
    """When a recurring campaign is due next. Inside the caller's transaction."""
    db.execute(PLAN, {"number": campaign, "at": at, "fired": fired})


def stay(db: Connection, campaign: int, *, reason: str, at: str) -> bool:
    """What paused itself until later waits for a person from now on; False where it did."""
    return bool(db.execute(STAY, {"number": campaign, "reason": reason, "at": at}).rowcount)


def resume_now(db: Connection, campaign: int, *, at: str) -> bool:
    """Have the next `run` resume it; False where it is not paused. A person's wish, from afar."""
    return bool(db.execute(RESUME_NOW, {"number": campaign, "at": at}).rowcount)
