"""What a person does to a campaign that may be running somewhere: all of it through the file.

Each is a guarded move in one transaction; the run, if there is one, notices within a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import clone_guard, locks
from wabcast.campaign import BY_A_PERSON, Campaign, CampaignStatus, refused
from wabcast.clock import SECOND, Clock, parse, text
from wabcast.delivery import MessageStatus
from wabcast.errors import Busy, Refused, UsageError
from wabcast.store import campaigns, decisions, schedules
from wabcast.store.database import immediate
from wabcast.store.decisions import Chosen, Decided
from wabcast.store.pieces import Tick, unheard

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
    reason: str = BY_A_PERSON,
) -> bool:
    """Pause, and return when the run has let go; False where it was paused already.

    One that paused itself until later stays paused now. Busy if the run still has something on
    the wire after `wait`: the pause stands all the same.
    """
    changed = schedules.pause(db, campaign, reason=reason, at=text(clock.micros()))
    _let_go(database, campaign, wait, clock)
    bury(db, database, campaign)
    return changed


def cancel(
    db: Connection,
    database: Path,
    campaign: Campaign,
    *,
    clock: Clock,
    wait: timedelta,
    within: timedelta | None = None,
    tick: Tick = unheard,
) -> bool:
    """End it for good: what is pending is skipped. False where it was cancelled already.

    Nothing leaves from the first commit on. The others are skipped piece by piece, for as long as
    `within` allows; what is left is done by the same command again, or by `wabcast run`. Busy if
    the run still has something on the wire after `wait`: the campaign is cancelled all the same.
    """
    changed = decisions.cancel(
        db,
        campaign,
        at=text(clock.micros()),
        clock=clock,
        reason="cancelled by a person",
        within=within,
        tick=tick,
    )
    _let_go(database, campaign, wait, clock)
    bury(db, database, campaign)
    return changed


def bury(db: Connection, database: Path, campaign: Campaign) -> int:
    """What a run that died left on the wire is in doubt from now on; how many. 0 while a living
    process holds the campaign."""
    return decisions.bury(db, campaign, partial(locks.is_held, database))


def unschedule(db: Connection, campaign: Campaign, *, clock: Clock) -> bool:
    """Back to a draft; False where it was one."""
    return _move(db, campaign, "unschedule", clock, already=CampaignStatus.DRAFT)


def failures(
    kind: str | None,
    *,
    contacts: Collection[int] | None,
    codes: Collection[str],
    transient: Collection[str],
) -> Chosen:
    """Which failures are meant: of these people, with these codes, of this kind: `transient` or
    `all`. Nothing said: the transient ones of everybody; else the kind only narrows."""
    named = contacts is not None or bool(codes)
    if kind == "all" or (kind is None and named):
        return Chosen(contacts, frozenset(codes) or None)
    wanted = frozenset(transient) | {decisions.NEVER_TRIED}
    return Chosen(contacts, wanted & frozenset(codes) if codes else wanted)


def retry(
    db: Connection,
    database: Path,
    campaign: Campaign,
    chosen: Chosen,
    *,
    clock: Clock,
    leave_alone: Mapping[str, timedelta],
    tick: Tick = unheard,
) -> Decided:
    """Failed messages are owed again; how many, and who was left out.

    The campaign is paused then, so that a resume sends them. Refused while it runs. Nobody is
    chosen whom WhatsApp asked to be left alone for now: `leave_alone` says by which codes, and
    for how long.
    """
    now = clock.now()
    return decisions.retry(
        db,
        campaign,
        chosen,
        at=text(now),
        clock=clock,
        is_held=partial(locks.is_held, database),
        asked=_since(leave_alone, now),
        tick=tick,
    )


def settle(
    db: Connection,
    database: Path,
    campaign: Campaign,
    outcome: MessageStatus,
    chosen: Chosen,
    *,
    clock: Clock,
    leave_alone: Mapping[str, timedelta],
    tick: Tick = unheard,
) -> Decided:
    """Decide the ones in doubt by hand, those that a dead run has just left among them.

    As pending, they are sent again on resume, but for those whom `retry` leaves out too.
    """
    bury(db, database, campaign)
    now = clock.now()
    return decisions.settle(
        db,
        campaign,
        outcome,
        chosen,
        at=text(now),
        clock=clock,
        is_held=partial(locks.is_held, database),
        asked=_since(leave_alone, now),
        tick=tick,
    )


def finish_all(db: Connection, database: Path, *, clock: Clock, within: timedelta) -> None:
    """Go on with cancels that were interrupted, and with what dead runs left on the wire."""
    decisions.finish_all(db, partial(locks.is_held, database), clock=clock, within=within)


def _since(leave_alone: Mapping[str, timedelta], now: datetime) -> dict[str, str]:
    return {code: text(now - length) for code, length in leave_alone.items()}


def _move(
    db: Connection,
    campaign: Campaign,
    verb: str,
    clock: Clock,
    *,
    already: CampaignStatus,
    reason: str | None = None,
) -> bool:
    with immediate(db):
        if campaigns.move(db, campaign, verb, at=text(clock.micros()), reason=reason):
            return True
        now = campaigns.by_id(db, campaign.id)
    if now.status is already:
        return False
    raise refused(verb, now)


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

    Refused unless a draft or scheduled, and in a copy of the file. `timezone` is for a campaign
    that has none yet.
    """
    if rule is None:
        not_past(at, clock)
    else:
        first = rule.next_after(max(at - timedelta(seconds=1), clock.now() - PAST))
        if first is None:
            raise UsageError("--repeat: never happens again", hint="give a rule without an end")
        at = first
    told = text(clock.micros())
    clone_guard.refuse(db)
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
    """Have a recurring campaign that was paused wait for its next occurrence. Refused in a copy."""
    from wabcast.schedule import Recurrence

    now = clock.now()
    clone_guard.refuse(db)

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
