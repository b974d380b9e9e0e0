"""What is due, as the file has it: times that have come, and the guarded steps of a recurrence.

What must not break: an occurrence is fired by one statement that names the time it expects, in
the transaction that makes its copy, so that two processes, or one that dies, never fire twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from wabcast.campaign import Campaign, CampaignStatus, refused
from wabcast.clock import text
from wabcast.store import campaigns
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection

AHEAD = timedelta(days=1)
"""A mark of ours that lies further in the future was made by a clock that was wrong."""

DUE = (
    campaigns.SELECT
    + """
 where (c.status = 'running'
        or (c.status = 'scheduled' and c.scheduled_at <= :now)
        or (c.status = 'paused' and c.resume_at <= :now)
        or (c.status = 'paused' and c.resume_at is not null and c.paused_at > :ahead))
   and c.test_of is null
 order by case c.priority when 'high' then 0 when 'normal' then 1 else 2 end,
          coalesce(c.resume_at, c.scheduled_at, c.started_at), c.number
"""
)

FIRED = """
update campaigns
   set scheduled_at = coalesce(:next, scheduled_at), last_fired_at = :fired, updated_at = :at,
       revision = revision + 1
 where id = :id and status = 'scheduled' and scheduled_at = :expected
"""

# Recurring ones too: their next copy is made when they are due.
OVERDUE = (
    campaigns.SELECT
    + """
 where (c.status = 'scheduled' and c.scheduled_at < :before)
    or (c.status = 'paused' and c.resume_at < :before)
 order by coalesce(c.resume_at, c.scheduled_at), c.number
"""
)

STRAYED = (
    campaigns.SELECT
    + """
 where c.status = 'scheduled' and c.repeat is not null and c.last_fired_at > :ahead
"""
)

PLAN = """
update campaigns set scheduled_at = :at, last_fired_at = :fired, revision = revision + 1
 where id = :id and repeat is not null and status in ('scheduled', 'paused')
"""

# A run that paused until later is resumed by `wabcast run`; a person's pause is not.
STAY = """
update campaigns set resume_at = null, reason = :reason, paused_at = :at, updated_at = :at,
       revision = revision + 1
 where id = :id and status = 'paused' and resume_at is not null
"""

# The reason stays: whoever looks before the run takes it sees why it was paused.
RESUME_NOW = """
update campaigns set resume_at = :at, updated_at = :at, revision = revision + 1
 where id = :id and status = 'paused'
"""


def due(db: Connection, now: datetime) -> list[Campaign]:
    """Campaigns whose time has come, and all that say they run: by priority, then by time."""
    wanted = {"now": text(now), "ahead": text(now + AHEAD)}
    return campaigns.found(db, DUE, wanted)


def overdue(db: Connection, before: datetime) -> list[Campaign]:
    """What `run` should have begun or gone on with before this moment, the longest due first."""
    return campaigns.found(db, OVERDUE, {"before": text(before)})


def strayed(db: Connection, now: datetime) -> list[Campaign]:
    """Recurring campaigns that last fired in what is still the future: the clock was wrong."""
    wanted = {"ahead": text(now + AHEAD)}
    return campaigns.found(db, STRAYED, wanted)


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
        "id": campaign.id,
        "expected": campaign.scheduled_at,
        "fired": text(occurrence),
        "next": None if following is None else text(following),
        "at": at,
    }
    return bool(db.execute(FIRED, row).rowcount)


def plan(db: Connection, campaign: Campaign, *, at: str, fired: str | None = None) -> None:
    """When a recurring campaign is due next. Inside the caller's transaction."""
    db.execute(PLAN, {"id": campaign.id, "at": at, "fired": fired})


def stay(db: Connection, campaign: Campaign, *, reason: str, at: str) -> bool:
    """What paused itself until later waits for a person from now on; False where it did."""
    return bool(db.execute(STAY, {"id": campaign.id, "reason": reason, "at": at}).rowcount)


def pause(db: Connection, campaign: Campaign, *, reason: str, at: str) -> bool:
    """A person's pause; False where a person had paused it before. Raises what refuses it."""
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        if campaigns.move(db, now, "pause", at=at, reason=reason):
            return True
        if now.status is not CampaignStatus.PAUSED:
            raise refused("pause", now)
        return stay(db, now, reason=reason, at=at)


def set_aside(db: Connection, campaign: Campaign, *, reason: str, at: str) -> None:
    """What was refused waits for a person, unless somebody has changed it since it was read."""
    with immediate(db):
        now = campaigns.current(db, campaign)
        if now is None or now.revision != campaign.revision:
            return
        if not campaigns.move(db, now, "pause", at=at, reason=reason):
            stay(db, now, reason=reason, at=at)


def schedule(
    db: Connection,
    campaign: Campaign,
    *,
    begins: str,
    repeat: str | None,
    if_missed: str,
    timezone: str | None,
    at: str,
) -> Campaign:
    """Have `run` start it at `begins`; `timezone` is for a campaign that has none yet."""
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        campaigns.set_schedule(
            db, now, at=begins, repeat=repeat, if_missed=if_missed, timezone=timezone
        )
        if not campaigns.move(db, now, "schedule", at=at):
            raise refused("schedule", now)
        return campaigns.by_id(db, now.id)


def wait(
    db: Connection, campaign: Campaign, following: Callable[[Campaign], str], *, at: str
) -> Campaign:
    """Have a recurring campaign that was paused wait for what `following` makes of it."""
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        if now.status is not CampaignStatus.PAUSED or not now.recurring:
            raise refused("resume", now)
        plan(db, now, at=following(now), fired=now.last_fired_at)
        campaigns.move(db, now, "wait", at=at)
        return campaigns.by_id(db, now.id)


def resume(db: Connection, campaign: Campaign, *, at: str) -> Campaign:
    """Have the next `run` resume it. Raises what refuses it."""
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        if now.recurring or not resume_now(db, now, at=at):
            raise refused("resume", now)
        return campaigns.by_id(db, now.id)


def resume_now(db: Connection, campaign: Campaign, *, at: str) -> bool:
    """As `resume`, in the caller's transaction; False where it is not paused."""
    return bool(db.execute(RESUME_NOW, {"id": campaign.id, "at": at}).rowcount)
