"""What a person does to a campaign that may be running somewhere: all of it through the file.

Each is a guarded move in one transaction; the run, if there is one, notices within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import locks
from wabcast.campaign import FINISHED, Campaign, CampaignStatus, refusal
from wabcast.clock import SECOND, Clock, parse, text
from wabcast.delivery import MessageStatus
from wabcast.errors import Busy, Refused, UsageError
from wabcast.store import campaigns, copies, ledger, schedules
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.schedule import Recurrence
    from wabcast.store.database import Connection

LOOK_EVERY = 0.05

GONE = "its process is gone; go on with: wabcast campaign resume '{}'"
"""Said of a campaign that is marked running and that no process carries."""

PAST = timedelta(minutes=1)
"""A time that was typed as `now` is over when it is looked at."""


def is_abandoned(db: Connection, database: Path, campaign: Campaign) -> bool:
    """Whether it is marked running though the process that carried it died, as of `kill -9`."""
    if campaign.status is not CampaignStatus.RUNNING or locks.is_held(database, campaign):
        return False
    # Between the two looks it may have come to its end, or another run may have taken it.
    return campaigns.runs_still(db, campaign)


def pause(
    db: Connection,
    database: Path,
    campaign: Campaign,
    *,
    clock: Clock,
    wait: timedelta = timedelta(seconds=30),
    reason: str = "paused by a person",
) -> bool:
    """Pause, and return when the run has let go; False where it was paused already.

    One that paused itself until later stays paused now. Busy if the run still has something on
    the wire after `wait`: the pause stands all the same.
    """
    changed = schedules.pause(db, campaign, reason=reason, at=text(clock.micros()))
    _let_go(database, campaign, wait, clock)
    return changed


def cancel(
    db: Connection, database: Path, campaign: Campaign, *, clock: Clock, wait: timedelta
) -> bool:
    """End it for good: what is pending is skipped. False where it was cancelled already."""
    changed = _move(
        db,
        campaign,
        "cancel",
        clock,
        reason="cancelled by a person",
        already=CampaignStatus.CANCELLED,
        also=lambda: ledger.cancel(db, campaign.number),
    )
    _let_go(database, campaign, wait, clock)
    return changed


def unschedule(db: Connection, campaign: Campaign, *, clock: Clock) -> bool:
    """Back to a draft; False where it was one."""
    return _move(db, campaign, "unschedule", clock, already=CampaignStatus.DRAFT)


def retry(
    db: Connection,
    database: Path,
    campaign: Campaign,
    *,
    clock: Clock,
    transient: Collection[str] | None,
) -> int:
    """Failed messages with one of these codes (None: all) are owed again; how many.

    The campaign is paused then, so that a resume sends them. Refused while it runs.
    """
    return _put_back(
        db,
        database,
        campaign,
        clock,
        lambda _at: ledger.retry(
            db, campaign.number, codes=None if transient is None else sorted(transient)
        ),
    )


def settle(
    db: Connection, database: Path, campaign: Campaign, outcome: MessageStatus, *, clock: Clock
) -> int:
    """Decide the ones in doubt by hand; how many. As pending, they are sent again on resume."""
    return _put_back(
        db,
        database,
        campaign,
        clock,
        lambda at: ledger.settle_by_hand(db, campaign.number, outcome, at=at),
    )


def _put_back(
    db: Connection,
    database: Path,
    campaign: Campaign,
    clock: Clock,
    change: Callable[[str], int],
) -> int:
    if locks.is_held(database, campaign):
        raise Busy(
            f"{campaign.name} is running",
            hint=f"first: wabcast campaign pause '{campaign.name}'",
        )
    at = text(clock.micros())
    with immediate(db):
        now = campaigns.by_id(db, campaign.id)
        if now.status is CampaignStatus.CANCELLED:
            raise Refused(
                f"{campaign.name} was cancelled",
                hint=f"begin anew: wabcast campaign duplicate '{campaign.name}'",
            )
        changed = change(at)
        owed = campaigns.by_id(db, campaign.id).pending
        if owed and now.status in FINISHED:
            campaigns.move(db, now, "reopen", at=at, reason="messages were put back")
    return changed


def _move(
    db: Connection,
    campaign: Campaign,
    verb: str,
    clock: Clock,
    *,
    already: CampaignStatus,
    reason: str | None = None,
    also: Callable[[], object] = lambda: None,
) -> bool:
    with immediate(db):
        if campaigns.move(db, campaign, verb, at=text(clock.micros()), reason=reason):
            also()
            return True
        now = campaigns.by_id(db, campaign.id)
    if now.status is already:
        return False
    raise refusal(verb, now.name, now.status)


def _let_go(database: Path, campaign: Campaign, wait: timedelta, clock: Clock) -> None:
    """Return when no living process holds the campaign: then nothing leaves any more."""
    until = clock.steady() + round(wait.total_seconds() * SECOND)
    while locks.is_held(database, campaign):
        if clock.steady() > until:
            raise Busy(
                f"{campaign.name} takes no more, but its process still waits for answers",
                hint="they are recorded as they come; run the same command again to wait longer",
            )
        clock.pause(LOOK_EVERY)


def not_past(at: datetime, clock: Clock, *, option: str = "--at") -> None:
    """Refuse a time that is over: a slip of the year would send at once."""
    if at < clock.now() - PAST:
        raise UsageError(
            f"{option} {text(at)} is in the past",
            hint="give a later time, or send it now: wabcast campaign start",
        )


def schedule(
    db: Connection,
    campaign: Campaign,
    *,
    at: datetime,
    clock: Clock,
    rule: Recurrence | None = None,
    if_missed: str = "auto",
    timezone: str | None = None,
) -> Campaign:
    """Have `wabcast run` start it at `at`, or copies of it whenever `rule` says from then on.

    Refused unless a draft or scheduled. `timezone` is for a campaign that has none yet.
    """
    if rule is None:
        not_past(at, clock)
    else:
        first = rule.next_after(max(at - timedelta(seconds=1), clock.now() - PAST))
        if first is None:
            raise UsageError("--repeat: never happens again", hint="give a rule without an end")
        at = first
    told = text(clock.micros())
    copies.meet(db, at=told)  # or the next `run` would take this one for another's
    return schedules.schedule(
        db,
        campaign,
        begins=text(at),
        repeat=None if rule is None else str(rule),
        if_missed=if_missed,
        timezone=timezone,
        at=told,
    )


def wait_again(db: Connection, campaign: Campaign, *, clock: Clock) -> Campaign:
    """Have a recurring campaign that was paused wait for its next occurrence."""
    from wabcast.schedule import Recurrence

    now = clock.now()

    def following(pattern: Campaign) -> str:
        fired = parse(pattern.last_fired_at) if pattern.last_fired_at else None
        occurrence = Recurrence.load(pattern.repeat or "").next_after(now, fired=fired)
        if occurrence is None:
            raise Refused(
                f"{pattern.name} does not happen again",
                hint=f"send it once more: wabcast campaign duplicate '{pattern.name}'",
            )
        return text(occurrence)

    return schedules.wait(db, campaign, following, at=text(now))
