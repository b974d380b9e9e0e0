"""What `wabcast run` finds to do: campaigns whose time has come, and those whose process died.

What must not break: `verb` is asked again by whoever holds the campaign's lock, in the
transaction that takes it, so that what a person paused in the meantime stays paused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from wabcast import clone_guard, control, drafts, locks, schedule
from wabcast.audience import Audience
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import Clock, parse, text
from wabcast.errors import Busy, StoreError, WabcastError
from wabcast.schedule import Due, Missed, Recurrence
from wabcast.store import campaigns, recipients, schedules, waiting
from wabcast.store.database import immediate
from wabcast.times import known_zone, wall_time

if TYPE_CHECKING:
    from wabcast.store.database import Connection

RUN = "run"
"""The verb of whoever carries what is due, whatever that means for the campaign."""

AT_LEISURE = timedelta(seconds=2)
"""How long one look goes on with a cancel that was interrupted; the next goes on with the rest."""


@dataclass(slots=True)
class Look:
    """What one look found: `ready` in the order of their turn, `held` by a living process.

    `asked` wait for a person from now on, because they are late; `refused` are those that could
    not be prepared, with why; `waiting` are those that need a person, told of once an hour.
    """

    ready: list[Campaign] = field(default_factory=list)
    held: list[Campaign] = field(default_factory=list)
    asked: list[Campaign] = field(default_factory=list)
    refused: list[tuple[Campaign, WabcastError]] = field(default_factory=list)
    waiting: list[Campaign] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verb(campaign: Campaign, now: datetime) -> str | None:
    """What is to be done with it now, whose lock is free; None: nothing, or a person's affair."""
    match campaign.status:
        case CampaignStatus.RUNNING:
            return "take over"
        case CampaignStatus.PAUSED if _back_from_pause(campaign, now):
            return "resume"
        case CampaignStatus.SCHEDULED if campaign.scheduled_at and not campaign.repeat:
            planned = parse(campaign.scheduled_at)
            wanted = schedule.due(planned, now, Missed(campaign.if_missed))
            return "start" if wanted is Due.RUN else None
        case _:
            return None


def _back_from_pause(campaign: Campaign, now: datetime) -> bool:
    if campaign.resume_at is None:
        return False
    # Paused in what is still the future: by a clock that was wrong, as its `resume_at` is.
    strayed = campaign.paused_at is not None and parse(campaign.paused_at) > now + schedules.AHEAD
    return parse(campaign.resume_at) <= now or strayed


def look(db: Connection, database: Path, *, clock: Clock, home: ZoneInfo) -> Look:
    """Find what is due, and do what needs no sending: copies of recurring campaigns are made,
    late ones are left to a person or skipped, and what an interrupted cancel left is gone on with.
    `home` is the machine's zone. Refused in a copy."""
    found = Look()
    now = clock.now()
    clone_guard.refuse(db)
    for pattern in schedules.strayed(db, now):
        _plan_anew(db, pattern, now)
    again = False
    for campaign in schedules.due(db, now):
        try:
            again |= _meet(db, database, campaign, clock, home, found)
        except StoreError:
            raise
        except Busy:  # another process is at it, in this very moment
            found.held.append(campaign)
        except WabcastError as exc:
            set_aside(db, database, campaign, exc, clock)
            found.refused.append((campaign, exc))
    if again:  # the copies that were made have their turn by priority
        found.ready = [
            campaign
            for campaign in schedules.due(db, now)
            if verb(campaign, now) and not locks.is_held(database, campaign)
        ]
    told = {campaign.id for campaign in (*found.asked, *(each for each, _ in found.refused))}
    found.waiting = [each for each in waiting.remind(db, now) if each.id not in told]
    # After all that must not wait for it: a cancel of a million takes a minute.
    control.finish_all(db, database, clock=clock, within=AT_LEISURE)
    return found


def _meet(
    db: Connection, database: Path, campaign: Campaign, clock: Clock, home: ZoneInfo, found: Look
) -> bool:
    """Sort one campaign that is due; True where a copy of it was made."""
    if campaign.status is CampaignStatus.SCHEDULED and campaign.repeat:
        return _fire(db, campaign, clock, found)
    if locks.is_held(database, campaign):
        found.held.append(campaign)
    elif verb(campaign, clock.now()) and not campaign.complete:
        found.notes.append(f"the recipients of {campaign.name} were not all chosen; chosen anew")
        found.ready.append(drafts.refresh(db, campaign, clock))
    elif verb(campaign, clock.now()):
        found.ready.append(campaign)
    elif campaign.status is CampaignStatus.SCHEDULED:
        _missed(db, campaign, clock, home, found)
    return False


def _missed(db: Connection, campaign: Campaign, clock: Clock, home: ZoneInfo, found: Look) -> None:
    """Late by an hour or more: a person decides, or it is skipped, as was said."""
    now = clock.now()
    with immediate(db):
        campaign = campaigns.by_id(db, campaign.id)
        if campaign.status is not CampaignStatus.SCHEDULED or campaign.scheduled_at is None:
            return
        planned = parse(campaign.scheduled_at)
        zone = (known_zone(campaign.timezone) if campaign.timezone else None) or home
        note = schedule.missed_note(planned, now, zone)
        match schedule.due(planned, now, Missed(campaign.if_missed)):
            case Due.ASK:
                campaigns.move(db, campaign, "pause", at=text(now), reason=note)
                found.asked.append(campaigns.by_id(db, campaign.id))
            case Due.SKIP:
                campaigns.move(db, campaign, "unschedule", at=text(now), reason=f"skipped: {note}")
                found.notes.append(f"{campaign.name} {note}; skipped, it is a draft again")
            case _:
                return


def _fire(db: Connection, pattern: Campaign, clock: Clock, found: Look) -> bool:
    """Make the copy of the occurrence that is due, and plan the next: both or neither.

    Of several that were missed only the last one counts.
    """
    run = clock.new_run_id()
    with recipients.chosen(db, Audience.from_json(pattern.audience)) as choice:
        copy = recipients.put_in(
            db,
            choice,
            lambda: _fire_once(db, pattern, clock, found, run),
            run=run,
            clock=clock,
            hold=drafts.holding(db),
        )
    if copy is not None and copy.status is CampaignStatus.PAUSED:
        found.asked.append(copy)
    return copy is not None


def _fire_once(
    db: Connection, seen: Campaign, clock: Clock, found: Look, run: str
) -> Campaign | None:
    """The copy, still without its recipients; None where there is none to be made."""
    now = clock.now()
    at = text(now)
    pattern = campaigns.by_id(db, seen.id)
    waiting = pattern.status is CampaignStatus.SCHEDULED and pattern.repeat is not None
    if not waiting or pattern.scheduled_at is None or pattern.scheduled_at > at:
        return None  # another process was a moment earlier
    if pattern.audience != seen.audience:
        return None  # the next look finds out whom it means now
    rule = Recurrence.load(pattern.repeat or "")
    occurrence = rule.latest(parse(pattern.scheduled_at), now)
    following = rule.next_after(max(now, occurrence), fired=occurrence)
    if following and pattern.not_after and following > parse(pattern.not_after):
        following = None
    schedules.fired(db, pattern, occurrence=occurrence, following=following, at=at)
    if following is None:
        last = f"its last occurrence was {wall_time(occurrence, rule.zone):%Y-%m-%d %H:%M}"
        campaigns.move(db, pattern, "unschedule", at=at, reason=last)
        found.notes.append(f"{pattern.name} is a draft again: {last}")
    return _occur(db, pattern, occurrence, rule.zone, clock, found, run)


def _occur(
    db: Connection,
    pattern: Campaign,
    occurrence: datetime,
    zone: ZoneInfo,
    clock: Clock,
    found: Look,
    run: str,
) -> Campaign | None:
    """The dated copy, scheduled for its own time; for whoever the audience is now."""
    now = clock.now()
    note = schedule.missed_note(occurrence, now, zone)
    wanted = schedule.due(occurrence, now, Missed(pattern.if_missed))
    name = schedule.occurrence_name(pattern.name, wall_time(occurrence, zone))
    if wanted is Due.SKIP:
        found.notes.append(f"{name} {note}; skipped")
        return None
    if campaigns.called(db, name) is not None:
        found.notes.append(f"there is a {name} already; not made again")
        return None
    copy = drafts.copy(db, pattern, name, clock, run=run)
    campaigns.set_schedule(
        db,
        copy,
        at=text(occurrence),
        repeat=None,
        if_missed=pattern.if_missed,
        timezone=str(zone),
    )
    campaigns.move(db, copy, "schedule", at=text(now))
    if wanted is Due.ASK:
        campaigns.move(db, copy, "pause", at=text(now), reason=note)
    return copy


def _plan_anew(db: Connection, pattern: Campaign, now: datetime) -> None:
    """The clock was set back: what it planned by its wrong time would stall for as long.

    The names of the copies still keep an occurrence from firing twice.
    """
    with immediate(db):
        pattern = campaigns.by_id(db, pattern.id)
        if pattern.status is not CampaignStatus.SCHEDULED or not pattern.repeat:
            return
        following = Recurrence.load(pattern.repeat).next_after(now - timedelta(seconds=1))
        if following is not None:
            schedules.plan(db, pattern, at=text(following))


def set_aside(
    db: Connection, database: Path, campaign: Campaign, error: WabcastError, clock: Clock
) -> None:
    """What was refused waits for a person: another try would be refused as well, every minute."""
    if locks.is_held(database, campaign):
        return
    schedules.set_aside(db, campaign, reason=error.message, at=text(clock.micros()))
