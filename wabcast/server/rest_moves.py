"""/campaigns/{id}/VERB: what is done to a campaign. The first four are the seed's."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

from fastapi import APIRouter, Body, Depends

from wabcast import control, drafts, wiring
from wabcast.campaign import Campaign
from wabcast.delivery import MessageStatus
from wabcast.errors import UsageError
from wabcast.phones import BadPhone, parse
from wabcast.schedule import Recurrence
from wabcast.server import moves
from wabcast.server.desk import Desk, may
from wabcast.server.models import (
    Answer,
    CampaignTold,
    Changed,
    DuplicateAsked,
    Move,
    RetryAsked,
    ScheduleAsked,
    SettleAsked,
)
from wabcast.store import accounts, campaigns, decisions
from wabcast.store.decisions import Chosen
from wabcast.times import known_zone

router = APIRouter(prefix="/campaigns/{id}", tags=["campaigns"])

Starts = Annotated[Desk, Depends(may("campaigns:start"))]
Pauses = Annotated[Desk, Depends(may("campaigns:pause"))]
Duplicates = Annotated[Desk, Depends(may("campaigns:duplicate", "contacts:read"))]
Cancels = Annotated[Desk, Depends(may("campaigns:cancel"))]
Refreshes = Annotated[Desk, Depends(may("campaigns:edit", "contacts:read"))]
Settles = Annotated[Desk, Depends(may("campaigns:settle"))]


@router.post("/start", summary="Send it, as soon as the runner takes it")
def start(id: str, desk: Starts) -> Answer[Move]:  # noqa: A002  # the seed's word
    campaign = moves.start(desk.db, desk.campaign(id), desk.clock)
    return _moved("Campaign started successfully", campaign)


@router.post("/pause", summary="Send no more of it")
def pause(id: str, desk: Pauses) -> Answer[Move]:  # noqa: A002
    campaign = moves.pause(desk.db, desk.path, desk.campaign(id), desk.clock)
    return _moved("Campaign paused successfully", campaign)


@router.post("/resume", summary="Go on with a paused one, as soon as the runner takes it")
def resume(id: str, desk: Starts) -> Answer[Move]:  # noqa: A002
    campaign = moves.resume(desk.db, desk.campaign(id), desk.clock)
    return _moved("Campaign resumed successfully", campaign)


@router.post("/duplicate", summary="A draft like it, its recipients computed afresh")
def duplicate(
    id: str,  # noqa: A002
    desk: Duplicates,
    asked: Annotated[DuplicateAsked | None, Body()] = None,
) -> Answer[CampaignTold]:
    name = asked.name if asked is not None else None
    campaign = moves.duplicate(desk.db, desk.campaign(id), name, desk.clock)
    return _whole("Campaign duplicated successfully", campaign)


@router.post("/cancel", summary="End it for good: what is pending is skipped")
def cancel(id: str, desk: Cancels) -> Answer[CampaignTold]:  # noqa: A002
    return _whole(
        "Campaign cancelled", moves.cancel(desk.db, desk.path, desk.campaign(id), desk.clock)
    )


@router.post("/schedule", summary="Start it at a time, once or again and again")
def schedule(
    id: str,  # noqa: A002
    asked: ScheduleAsked,
    desk: Starts,
) -> Answer[CampaignTold]:
    zone = known_zone(asked.timezone)
    if zone is None:
        raise UsageError(f"no time zone called {asked.timezone!r}", hint="as Europe/Berlin")
    at = asked.at.astimezone(UTC)
    rule = None
    if asked.repeat is not None:
        rule = Recurrence.parse(asked.repeat, start=at, zone=zone)
    campaign = control.schedule(
        desk.db,
        desk.campaign(id),
        at=at,
        clock=desk.clock,
        rule=rule,
        if_missed=asked.if_missed,
        timezone=asked.timezone,
    )
    return _whole("Campaign scheduled", campaign)


@router.post("/unschedule", summary="A draft again")
def unschedule(id: str, desk: Starts) -> Answer[CampaignTold]:  # noqa: A002
    campaign = desk.campaign(id)
    control.unschedule(desk.db, campaign, clock=desk.clock)
    return _whole("Campaign unscheduled", campaigns.by_id(desk.db, campaign.id))


@router.post("/refresh", summary="Compute the recipients of a draft afresh")
def refresh(id: str, desk: Refreshes) -> Answer[CampaignTold]:  # noqa: A002
    campaign = desk.campaign(id)
    campaign = drafts.refresh(desk.db, campaign, desk.clock)
    return _whole("Recipients computed", campaign)


@router.post("/retry", summary="Failed messages are owed again; resume sends them")
def retry(
    id: str,  # noqa: A002
    asked: RetryAsked,
    desk: Settles,
) -> Answer[Changed]:
    campaign = desk.campaign(id)
    provider = accounts.get(desk.db, campaign.account).provider
    chosen = control.failures(
        asked.kind,
        contacts=decisions.choose(desk.db, campaign, _numbers(asked.phones)),
        codes=asked.codes,
        transient=wiring.provider_class(provider).transient_codes,
    )
    decided = control.retry(
        desk.db,
        desk.path,
        campaign,
        chosen,
        clock=desk.clock,
        leave_alone=wiring.leave_alone(provider),
    )
    return _changed(desk, campaign, decided.changed)


@router.post("/settle", summary="Decide what became of the messages in doubt")
def settle(
    id: str,  # noqa: A002
    asked: SettleAsked,
    desk: Settles,
) -> Answer[Changed]:
    campaign = desk.campaign(id)
    contacts = decisions.choose(desk.db, campaign, _numbers(asked.phones))
    decided = control.settle(
        desk.db,
        desk.path,
        campaign,
        MessageStatus(asked.outcome),
        Chosen(contacts, frozenset(asked.codes) or None),
        clock=desk.clock,
        leave_alone=wiring.leave_alone(accounts.get(desk.db, campaign.account).provider),
    )
    return _changed(desk, campaign, decided.changed)


def _numbers(phones: list[str]) -> list[str]:
    try:
        return [parse(phone) for phone in phones]
    except BadPhone as exc:
        raise UsageError(f"no phone number: {exc.reason}", hint="as in +4915123456789") from None


def _moved(message: str, campaign: Campaign) -> Answer[Move]:
    due = campaign.scheduled_at if campaign.resume_at is None else campaign.resume_at
    move = Move(id=campaign.id, status=campaign.status.value, scheduled_at=due)
    return Answer(message=message, data=move)


def _whole(message: str, campaign: Campaign) -> Answer[CampaignTold]:
    return Answer(message=message, data=CampaignTold(**campaigns.as_json(campaign)))


def _changed(desk: Desk, campaign: Campaign, changed: int) -> Answer[Changed]:
    now = CampaignTold(**campaigns.as_json(campaigns.by_id(desk.db, campaign.id)))
    return Answer(data=Changed(changed=changed, campaign=now))
