"""/segments: saved sentences that pick contacts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends

from wabcast.audience import Audience, AudienceKind
from wabcast.server.desk import Desk, may
from wabcast.server.models import Answer, Removed, SegmentAsked, SegmentTold
from wabcast.store import contacts, segments

router = APIRouter(prefix="/segments", tags=["segments"])

Reads = Annotated[Desk, Depends(may("segments:read"))]
Writes = Annotated[Desk, Depends(may("segments:write"))]


@router.get("", summary="All of them, by name")
def listed(desk: Reads) -> Answer[list[SegmentTold]]:
    return Answer(data=[SegmentTold(**asdict(one)) for one in segments.every(desk.db)])


@router.post("", status_code=201, summary="Save a sentence under a name; the same again is none")
def create(asked: SegmentAsked, desk: Writes) -> Answer[SegmentTold]:
    made = segments.create(desk.db, asked.name, asked.expression, at=desk.at)
    return Answer(message="Segment saved", data=_told(desk, made))


@router.get("/{name}", summary="One, and for contacts:read how many it picks now")
def show(name: str, desk: Reads) -> Answer[SegmentTold]:
    return Answer(data=_told(desk, segments.get(desk.db, name)))


@router.delete("/{name}", summary="Forget it; refused while a campaign that has not begun uses it")
def remove(name: str, desk: Writes) -> Answer[Removed]:
    segments.remove(desk.db, name)
    return Answer(message="Segment removed", data=Removed(removed=1))


def _told(desk: Desk, one: segments.Segment) -> SegmentTold:
    count = None
    if desk.caller.may("contacts:read"):
        count = contacts.count(desk.db, Audience(AudienceKind.SEGMENT, segment=one.name))
    return SegmentTold(**asdict(one), count=count)
