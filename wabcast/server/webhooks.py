"""The receiver of `webhook serve`, as a part of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wabcast import receiver, wiring
from wabcast.server.app import Part
from wabcast.webhooks import Webhooks

if TYPE_CHECKING:
    from wabcast.server.app import House


def part(house: House) -> Part:
    """`/webhooks/{account}`, and what applies the bodies that were kept."""
    doors = receiver.Doors(house.path, house.clock, wiring.provider_for)
    webhooks = Webhooks(house.path, house.clock, readers=doors.reader)
    app = receiver.build_app(doors, webhooks, exposed=house.exposed, unsigned=house.unsigned)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        webhooks.start()
        try:
            async with receiver.upkeep(webhooks, path=house.path, clock=house.clock):
                yield
            await webhooks.settled()
        finally:
            await webhooks.aclose()
            await doors.aclose()

    return Part([route for route in app.routes if "/webhooks/" in route.path], lifespan)  # type: ignore[attr-defined]  # they are all Routes
