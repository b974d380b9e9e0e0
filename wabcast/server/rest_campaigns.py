"""/campaigns: made, listed, changed, forgotten; who got what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from wabcast import (
    content,
    control,
    drafts,
    message,
    template,
    template_process,
    whatsapp_template,
    wiring,
)
from wabcast.audience import Audience
from wabcast.campaign import CampaignStatus
from wabcast.contacts import Contact
from wabcast.delivery import MessageStatus
from wabcast.drafts import Draft
from wabcast.errors import BadContent
from wabcast.server.desk import Desk, cursor, may, position
from wabcast.server.models import (
    Answer,
    AudienceAsked,
    CampaignAsked,
    CampaignChange,
    CampaignTold,
    Content,
    Page,
    Preview,
    Recipient,
    Removed,
)
from wabcast.server.people import numbers
from wabcast.store import campaigns, figures, imports, ledger, pages, templates

router = APIRouter(prefix="/campaigns", tags=["campaigns"])

Reads = Annotated[Desk, Depends(may("campaigns:read"))]
# Its recipients are counted, and so are those that an edit names.
Creates = Annotated[Desk, Depends(may("campaigns:create", "contacts:read"))]
Edits = Annotated[Desk, Depends(may("campaigns:edit"))]
Deletes = Annotated[Desk, Depends(may("campaigns:delete"))]

Cursor = Annotated[str | None, Query(max_length=100, description="The `next` of a page")]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("", summary="The newest first")
def listed(
    desk: Reads,
    status: CampaignStatus | None = None,
    cursor_: Annotated[str | None, Query(alias="cursor", max_length=100)] = None,
    limit: Limit = 50,
) -> Answer[Page[CampaignTold]]:
    before = position(cursor_)
    found = campaigns.page(desk.db, status=status, before=before, limit=limit)
    last = found[-1].number if len(found) == limit else None
    items = [CampaignTold(**campaigns.as_json(campaign)) for campaign in found]
    return Answer(data=Page(items=items, next=cursor(last)))


@router.post("", status_code=201, summary="A draft with its recipients; nothing is sent")
def create(asked: CampaignAsked, desk: Creates) -> Answer[CampaignTold]:
    if asked.scheduled_at is not None:
        desk.need("campaigns:start")
        control.not_past(asked.scheduled_at, desk.clock, option="scheduled_at")
    campaign = drafts.create(desk.db, asked.name, _draft(desk, asked), desk.clock)
    if asked.scheduled_at is not None:
        at = asked.scheduled_at.astimezone(UTC)
        campaign = control.schedule(desk.db, campaign, at=at, clock=desk.clock)
    return _whole("Campaign created successfully", campaign)


@router.get("/{id}", summary="One campaign")
def show(id: str, desk: Reads) -> Answer[CampaignTold]:  # noqa: A002  # the seed's word
    return _whole("OK", desk.campaign(id))


@router.patch("/{id}", summary="Change a draft, scheduled or paused one")
def edit(id: str, asked: CampaignChange, desk: Edits) -> Answer[CampaignTold]:  # noqa: A002
    if asked.audience is not None:
        desk.need("contacts:read")
    campaign = desk.campaign(id)
    changed = drafts.edit(desk.db, campaign, asked.name, _draft(desk, asked, campaign), desk.clock)
    return _whole("Campaign updated successfully", changed)


@router.delete("/{id}", summary="Forget it, and who got it; not while it runs")
def delete(id: str, desk: Deletes) -> Answer[Removed]:  # noqa: A002
    campaign = desk.campaign(id)
    drafts.delete(desk.db, campaign, desk.clock)
    return Answer(message="Campaign deleted successfully", data=Removed(removed=1))


@router.get("/{id}/recipients", summary="Who got it and who did not")
def recipients(
    id: str,  # noqa: A002
    desk: Reads,
    status: Annotated[list[MessageStatus] | None, Query()] = None,
    cursor_: Annotated[str | None, Query(alias="cursor", max_length=100)] = None,
    limit: Limit = 100,
) -> Answer[Page[Recipient]]:
    desk.need("contacts:read")
    campaign = desk.campaign(id)
    after = position(cursor_) or 0
    rows, following = pages.recipients(
        desk.db, campaign, after, statuses=[one.value for one in status or ()], limit=limit
    )
    shown = Recipient.model_fields
    items = [Recipient(**{name: row[name] for name in shown}) for row in rows]
    return Answer(data=Page(items=items, next=cursor(following)))


@router.get("/{id}/stats", summary="Counters, rates, times, and what failed and why")
def stats(id: str, desk: Reads) -> Answer[dict[str, Any]]:  # noqa: A002
    campaign = desk.campaign(id)
    told = figures.stats(desk.db, campaign)
    wiring.advised(desk.db, campaign, told["causes"])
    return Answer(data=told)


@router.get("/{id}/preview", summary="Messages as they would go")
def preview(
    id: str,  # noqa: A002
    desk: Reads,
    limit: Annotated[int, Query(ge=1, le=50)] = 3,
) -> Answer[list[Preview]]:
    desk.need("contacts:read")
    campaign = desk.campaign(id)
    loaded = content.load(desk.db, campaign)
    owed = ledger.due(desk.db, campaign.number, now="9999", after=("", 0), limit=limit)[:limit]
    said = template_process.preview(loaded, [dict(due.person) for due in owed])
    told = [
        Preview(phone=due.phone, error=wrong) if wrong else Preview(phone=due.phone, text=text)
        for due, (text, wrong) in zip(owed, said, strict=True)
    ]
    return Answer(data=told)


def _whole(told: str, campaign: Any) -> Answer[CampaignTold]:
    return Answer(message=told, data=CampaignTold(**campaigns.as_json(campaign)))


def _draft(desk: Desk, asked: CampaignChange, campaign: Any = None) -> Draft:
    """What was asked, in the words of `drafts`; not trusted where it says something anew."""
    throttle = asked.throttle
    rate = asked.rate
    if rate is None and throttle is not None and throttle.messagesPerMinute is not None:
        rate = f"{throttle.messagesPerMinute:.10g}/m"
    account = asked.account or (campaign.account if campaign is not None else None)
    says = asked.content is not None or asked.variables is not None
    return Draft(
        account=asked.account,
        content=_said(desk, asked.content, account) if asked.content else None,
        trusted=False if says else None,
        audience=_audience(desk, asked.audience) if asked.audience else None,
        variables=asked.variables,
        missing=asked.missing,
        rate=rate,
        batch_size=throttle.batchSize if throttle else None,
        batch_delay=throttle.delayBetweenBatches if throttle else None,
        concurrency=throttle.concurrency if throttle else None,
        jitter=throttle.jitter if throttle else None,
        priority=asked.priority,
        windows=asked.windows,
        recipient_timezone=asked.recipient_timezone,
        timezone=asked.timezone,
        not_after=asked.not_after.astimezone(UTC) if asked.not_after else None,
        canary=asked.canary,
        description=asked.description,
    )


def _said(desk: Desk, asked: Content, account: str | None) -> Mapping[str, Any]:
    body = _body(desk, asked, account)
    template_process.vet(body)
    return body


def _body(desk: Desk, asked: Content, account: str | None) -> Mapping[str, Any]:
    if asked.text is not None:
        return message.text(asked.text)
    if asked.message is not None:
        if wrong := template.problems(asked.message):
            raise BadContent("; ".join(wrong))
        return asked.message
    named = asked.template
    assert named is not None  # noqa: S101  # the model has seen to it
    files = whatsapp_template.media_params(named.params)
    if any(source == "file" for _, _, source in files):
        raise BadContent("a template that is filled over HTTP takes links and ids, not files")
    return templates.content(desk.db, named.name, account, named.language, named.params)


def _audience(desk: Desk, asked: AudienceAsked) -> Audience:
    """The people meant. Numbers that are nobody's come in, if the token may write contacts."""
    told = asked.model_dump(exclude_defaults=True) | {"kind": asked.kind}
    for name in ("phones", "exclude_phones"):
        if name in told:
            told[name] = numbers(told[name], None)
    if told.get("phones") and desk.caller.may("contacts:write"):
        imports.upsert(desk.db, (Contact(phone=phone) for phone in told["phones"]), at=desk.at)
    return Audience.from_json(told)
