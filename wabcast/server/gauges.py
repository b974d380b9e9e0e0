"""/metrics for Prometheus, out of the file: what any process has done shows.

It wants a token with metrics:read. Behind a proxy all the world comes from loopback, so loopback
proves nothing (Prometheus: `authorization: {credentials_file: ...}`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from wabcast.server.access import Guarded
from wabcast.server.problems import AGAIN, failure
from wabcast.store import database, totals

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from wabcast.server.app import House

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def route(house: House) -> Route:
    def show(request: Request) -> Response:
        if not request.state.caller.may("metrics:read"):
            return failure(403, "this token may not: metrics:read")
        try:
            with house.connections.one() as db:
                told = totals.read(db)
        except database.DatabaseError:
            return failure(503, "the database cannot be used now", headers=AGAIN)
        return PlainTextResponse("\n".join(_lines(told)) + "\n", media_type=TYPE)

    return Route(
        "/metrics", show, methods=["GET"], middleware=[Middleware(Guarded, access=house.access)]
    )


def _lines(families: Iterable[totals.Family]) -> Iterator[str]:
    for family in families:
        yield f"# HELP {family.name} {family.help}"
        yield f"# TYPE {family.name} {family.kind}"
        for labels, value in family.samples:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{family.name}{{{shown}}} {value}" if shown else f"{family.name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
