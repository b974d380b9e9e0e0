"""What an endpoint has before it: the file, the time, and who is asking with what right."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.requests import Request

from wabcast.clock import Clock, text
from wabcast.errors import NotFound
from wabcast.server.problems import Problem
from wabcast.store import campaigns

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.server.access import Caller
    from wabcast.server.app import House
    from wabcast.store.database import Connection


@dataclass(frozen=True, slots=True)
class Desk:
    """One request's. `db` is its own until it is answered."""

    db: Connection
    clock: Clock
    path: Path
    caller: Caller

    @property
    def at(self) -> str:
        return text(self.clock.now())

    def need(self, permission: str) -> None:
        need(self.caller, permission)

    def campaign(self, id_: str) -> Campaign:
        return by_whole_id(self.db, id_)


def by_whole_id(db: Connection, id_: str) -> Campaign:
    """A campaign as addresses name it. Raises NotFound, which tells nothing of those there are."""
    try:
        found = campaigns.get(db, id_)
    except NotFound:
        found = None
    if found is None or found.id != id_:
        raise NotFound("there is no campaign with this id")
    return found


def may(permission: str, *also: str) -> Callable[[Request], AsyncIterator[Desk]]:
    """The dependency of an endpoint that needs `permission`, and those beside it.

    FastAPI has read the whole body by then, so nobody slow holds a connection to the file.
    """
    known = only(permission, *also)

    async def desk(request: Request) -> AsyncIterator[Desk]:
        caller = known(request)
        house: House = request.app.state.house
        async with house.places, contextmanager_in_threadpool(house.connections.one()) as db:
            yield Desk(db, house.clock, house.path, caller)

    return desk


def only(permission: str, *also: str) -> Callable[[Request], Caller]:
    """The same, for what goes on for long and takes a connection now and then."""

    def known(request: Request) -> Caller:
        request.state.permission = permission
        caller: Caller = request.state.caller
        for one in (permission, *also):
            need(caller, one)
        return caller

    return known


def need(caller: Caller, permission: str) -> None:
    """Raises the 403 of somebody whose token does not hold it."""
    if not caller.may(permission):
        raise Problem(403, f"this token may not: {permission}")


def cursor(after: int | None) -> str | None:
    """Where a page ends, for the next one; not to be read by anybody else."""
    if after is None:
        return None
    return base64.urlsafe_b64encode(f"v1:{after}".encode()).rstrip(b"=").decode()


def position(given: str | None) -> int | None:
    """What `cursor` told, back; None: from the beginning. Raises the 400 of any other text."""
    if given is None:
        return None
    try:
        told = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        told = ""
    version, _, number = told.partition(":")
    if version != "v1" or not number.isdecimal() or len(number) > 18:
        raise Problem(400, "this cursor is none of ours; take the `next` of a page")
    return int(number)
