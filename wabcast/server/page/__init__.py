"""How the page is drawn: templates, a style and a script, all of it from this folder.

What must not break: everything a person or WhatsApp said is text, never markup; the policy in
HEADERS lets no script run and nothing load but what stands here.
"""

from __future__ import annotations

from datetime import UTC
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

from wabcast.report_page import environment, when

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment
    from starlette.requests import Request

    from wabcast.server.sessions import Session

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def show(
    name: str,
    told: Mapping[str, Any],
    request: Request,
    *,
    session: Session | None = None,
    status: int = 200,
) -> Response:
    """The template `name`, filled. `session` None: nobody is logged in."""
    shown = {**told, "root": request.scope.get("root_path", ""), "session": session}
    body = _environment().get_template(name).render(shown)
    return HTMLResponse(body, status_code=status, headers=HEADERS)


def asset(request: Request) -> Response:
    """The style, the script or the icon; asked before a log-in too."""
    kind = ASSETS.get(request.path_params["name"])
    if kind is None:
        return Response(status_code=404, headers=HEADERS)
    body = _read(request.path_params["name"])
    headers = {**HEADERS, "cache-control": "max-age=300"}
    return Response(body, media_type=kind, headers=headers)


@cache
def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import FunctionLoader

    env = environment(FunctionLoader(lambda name: _read(f"{name}.jinja")))
    env.filters["pc"] = lambda rate: "–" if rate is None else f"{rate:.1f}\u202f%"
    env.filters["when"] = lambda at: f"{when(at, UTC)} UTC" if at else "–"
    env.filters["speed"] = _speed
    return env


def _speed(rate: float) -> str:
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate * 60:,.0f} a minute"
