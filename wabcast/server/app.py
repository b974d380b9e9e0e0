"""One application out of parts that can each be left out.

A part brings its routes and what has to live as long as they are served. What must not break:
a part never reaches into another; they meet in the file, as the processes of wabcast do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from wabcast.server.access import Access
from wabcast.server.connections import Connections
from wabcast.server.headers import SecurityHeaders
from wabcast.server.problems import bug
from wabcast.store import database, inbox

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from wabcast.clock import Clock


PLACES, THREADS = 16, 24
"""REST requests that hold a connection to the file at once, and threads that may take one more:
so many connections have their files reserved (`connection_limits.RESERVED_FILES`)."""


@dataclass(frozen=True, slots=True)
class House:
    """What all parts share. `closing` is set when the server begins to end: streams end then."""

    path: Path
    clock: Clock
    connections: Connections
    access: Access
    exposed: bool = False
    unsigned: bool = False
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLACES))


@dataclass(frozen=True, slots=True)
class Part:
    """Routes, and a context that is entered before the first request and left after the last."""

    routes: list[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[object]] = nullcontext


PARTS = {
    "webhooks": "wabcast.server.webhooks",
    "rest": "wabcast.server.rest",
    "live": "wabcast.server.live",
    "dashboard": "wabcast.server.dashboard",
}
"""The module of each part; it has `part(house) -> Part`. Routes stand in this order."""


def build(
    path: Path,
    clock: Clock,
    *,
    webhooks: bool = True,
    rest: bool = True,
    live: bool = True,
    dashboard: bool = True,
    exposed: bool = False,
    unsigned: bool = False,
) -> Starlette:
    """The application over the database at `path`, with the parts that are wanted.

    `exposed`: strangers can reach it. `unsigned`: on loopback, webhooks of accounts without a
    secret are believed. `app.state.house` is what the parts share.
    """
    connections = Connections(path)
    access = Access(connections, clock)
    house = House(path, clock, connections, access, exposed=exposed, unsigned=unsigned)
    wanted = {"webhooks": webhooks, "rest": rest, "live": live, "dashboard": dashboard}
    parts: list[Part] = [
        import_module(module).part(house) for name, module in PARTS.items() if wanted[name]
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        async with AsyncExitStack() as stack:
            stack.callback(connections.close)
            for part in parts:
                await stack.enter_async_context(part.lifespan())
            yield

    routes: list[BaseRoute] = [Route("/healthz", _health, methods=["GET"])]
    routes += [route for part in parts for route in part.routes]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={Exception: bug},
        middleware=[Middleware(SecurityHeaders)],
    )
    app.state.house = house
    return app


def _health(request: Request) -> Response:
    """Whether the file can be read. Asked by whoever watches processes, so without a token."""
    house: House = request.app.state.house
    try:
        with house.connections.one() as db:
            waiting = inbox.count_waiting(db)
    except database.DatabaseError:
        return JSONResponse({"ok": False}, status_code=503)
    return JSONResponse({"ok": True, "waiting": waiting})
