"""/events: the log, a page at a time, and as it is written (Server-Sent Events).

What must not break: a stream that comes back with `Last-Event-ID` has missed nothing; one that
nobody reads costs a page of memory, and ends with its token.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from wabcast.clock import SECOND
from wabcast.connection_limits import keep
from wabcast.errors import UsageError
from wabcast.events import matching, without_people
from wabcast.server.access import Caller
from wabcast.server.app import House
from wabcast.server.desk import Desk, may, only
from wabcast.server.models import Answer, Told
from wabcast.server.problems import Problem
from wabcast.store import events

router = APIRouter(prefix="/events", tags=["events"])

Reads = Annotated[Desk, Depends(may("events:read"))]
Listens = Annotated[Caller, Depends(only("events:read"))]
Since = Annotated[int, Query(ge=0, lt=1 << 62, description="After this id")]
OfCampaign = Annotated[str | None, Query(max_length=64, description="The campaign's id")]
Names = Annotated[
    list[str] | None, Query(alias="event", max_length=50, description="campaign:*, ...")
]

LOOK_EVERY = 0.25
BEAT_EVERY = 15 * SECOND
AT_ONCE = 100
PAGE = 200

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "`id`, `event` and `data` (JSON) of each; a comment every 15 s",
    }
}


class EventTold(Told):
    id: int
    at: str
    event: str
    campaignId: str | None  # noqa: N815  # the seed's word
    data: dict[str, Any]
    actor: str | None = None


class EventPage(BaseModel):
    """`next` is the `since` of the page that follows; `whole`: there is nothing more now."""

    items: list[EventTold]
    next: int
    whole: bool


@router.get("", summary="Oldest first, after `since`")
def listed(
    desk: Reads,
    since: Since = 0,
    campaign: OfCampaign = None,
    names: Names = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Answer[EventPage]:
    page = events.page(desk.db, since, campaign_id=campaign, names=_wanted(names), limit=limit)
    items = [EventTold(**_for(desk.caller, event)) for event in page.events]
    return Answer(data=EventPage(items=items, next=page.seen, whole=page.whole))


@router.get(
    "/stream",
    summary="As they are written, from now on or after Last-Event-ID",
    response_class=StreamingResponse,
    responses=STREAM,
)
async def stream(
    request: Request,
    caller: Listens,
    since: Annotated[int | None, Query(ge=0, lt=1 << 62)] = None,
    campaign: OfCampaign = None,
    names: Names = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    wanted = _wanted(names)
    start = _start(last_event_id, since)
    house: House = request.app.state.house
    if Stream.open >= AT_ONCE or not keep(request.scope):
        raise Problem(503, "too many streams are open")
    if start is None:
        start = await run_in_threadpool(_last, house)
    told = Stream(house, caller, start, campaign, wanted)
    return StreamingResponse(
        told.lines(),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _last(house: House) -> int:
    with house.connections.one() as db:
        return events.last_id(db)


class Stream:
    """One reader of the log. `open` counts them all."""

    open = 0

    def __init__(
        self, house: House, caller: Any, start: int, campaign: str | None, names: list[str] | None
    ) -> None:
        self._house = house
        self._caller = caller
        self._seen = start
        self._campaign = campaign
        self._names = names

    async def lines(self) -> AsyncIterator[str]:
        clock = self._house.clock
        beat = clock.steady()
        Stream.open += 1
        try:
            yield "retry: 2000\n\n"
            while not self._house.closing.is_set():
                found, whole = await run_in_threadpool(self._look)
                for told in found:
                    event = _for(self._caller, told)
                    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
                    yield f"id: {event['id']}\nevent: {event['event']}\ndata: {data}\n\n"
                if not whole:
                    continue
                if clock.steady() - beat >= BEAT_EVERY:
                    beat = clock.steady()
                    if not await run_in_threadpool(self._house.access.still, self._caller):
                        return
                    yield f": {self._seen}\n\n"
                await clock.sleep(LOOK_EVERY)
        finally:
            Stream.open -= 1

    def _look(self) -> tuple[list[dict[str, Any]], bool]:
        with self._house.connections.one() as db:
            page = events.page(
                db, self._seen, campaign_id=self._campaign, names=self._names, limit=PAGE
            )
        self._seen = page.seen
        return page.events, page.whole


def _for(caller: Caller, event: dict[str, Any]) -> dict[str, Any]:
    return event if caller.may("contacts:read") else without_people(event)


def _wanted(names: list[str] | None) -> list[str] | None:
    return matching(names) if names else None


def _start(header: str | None, since: int | None) -> int | None:
    if header is None or not header.strip():
        return since
    if not header.strip().isdecimal():
        raise UsageError("Last-Event-ID is the id of an event")
    return min(int(header), (1 << 62) - 1)
