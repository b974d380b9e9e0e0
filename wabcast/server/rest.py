"""REST under /api/v1: the application that the endpoints' rooms are hung into.

What must not break: whatever is answered, is answered in the envelope, and the OpenAPI document
says so; its page asks no network.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount, Route

from wabcast import __version__
from wabcast.server import (
    docs_page,
    gauges,
    problems,
    rest_campaigns,
    rest_contacts,
    rest_events,
    rest_moves,
    rest_segments,
    rest_templates,
)
from wabcast.server.access import Guarded
from wabcast.server.app import Part
from wabcast.server.idempotency import LARGEST, Once, Told
from wabcast.server.models import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wabcast.server.app import House

ROOT = "/api/v1"

ABOUT = """WhatsApp campaigns on one SQLite file. Send `Authorization: Bearer TOKEN`; make one with
`wabcast token create NAME --role operator`. A POST with an `Idempotency-Key` is carried out once,
and answered the same for 24 hours. Errors are RFC 9457 problem details in `data`."""

_FAILURES = {
    400: "What was asked is refused: the state, a check or a rule forbids it",
    401: "No token, or one that is wrong, expired or revoked",
    403: "The token may not do this",
    404: "There is no such thing",
    408: "The request took too long to come in",
    409: "Another process holds it, or the Idempotency-Key is still at work",
    413: "The body is too large",
    422: "The request is not as documented",
    429: "Too many wrong tokens from this address",
    431: "The headers and the address are larger than 64 KiB, or more than 128",
    503: "The database cannot be used now, or too much comes in at once",
}


def part(house: House) -> Part:
    """`/api/v1`, and `/metrics`."""
    app = rest(house)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        making = asyncio.create_task(app.state.document.get())
        yield
        await asyncio.wait([making])

    return Part([Mount(ROOT, app=app), gauges.route(house)], lifespan)


def rest(house: House) -> FastAPI:
    """The REST application, to be mounted at `ROOT`."""
    app = FastAPI(
        title="wabcast",
        version=__version__,
        description=ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False},
        max_body_size=LARGEST,
        redirect_slashes=False,
    )
    app.state.house = house
    problems.install(app)
    failures: dict[int | str, dict[str, Any]] = {
        status: {"model": Failure, "description": told} for status, told in _FAILURES.items()
    }
    for room in (
        rest_campaigns,
        rest_moves,
        rest_contacts,
        rest_segments,
        rest_templates,
        rest_events,
    ):
        app.include_router(room.router, responses=failures)
    # From the outside in: who is it, was it done before, write down that it was.
    app.add_middleware(Told, house=house)
    app.add_middleware(Once, house=house)
    app.add_middleware(Guarded, access=house.access, unguarded=("/openapi.json", "/docs"))

    document = app.state.document = _Document(app)

    async def machines(_request: Request) -> Response:
        return Response((await document.get())[0], media_type="application/json")

    async def people(_request: Request) -> Response:
        return HTMLResponse((await document.get())[1], headers=docs_page.HEADERS)

    app.router.routes.append(Route("/openapi.json", machines, methods=["GET"]))
    app.router.routes.append(Route("/docs", people, methods=["GET"]))
    return app


_made: list[tuple[bytes, bytes]] = []


class _Document:
    """The OpenAPI document and its page. They need no token, and half a second of the processor:
    made when the server starts, once a process and by one thread."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._making = asyncio.Lock()

    async def get(self) -> tuple[bytes, bytes]:
        async with self._making:
            if not _made:
                await run_in_threadpool(self._make)
            return _made[0]

    def _make(self) -> None:
        told = openapi(self._app)
        _made.append((json.dumps(told).encode(), docs_page.html(told).encode()))


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document, with what the middleware adds to every operation."""
    if app.openapi_schema is None:
        told = app.openapi()
        told["servers"] = [{"url": ROOT}]
        told.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"}
        }
        told["security"] = [{"token": []}]
        key = {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
        for methods in told["paths"].values():
            if "post" in methods:
                methods["post"].setdefault("parameters", []).append(key)
        app.openapi_schema = told
    return app.openapi_schema
