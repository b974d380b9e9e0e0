"""The page for people: campaigns as they run, one campaign, who may be written to, the accounts.

Server-rendered; the script only makes it live. What must not break: nothing is shown or done
that the token may not, no rule is written here that the commands and REST do not share, and a
form counts only from a page of its own session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from wabcast import health
from wabcast.clock import text
from wabcast.errors import NotFound, WabcastError
from wabcast.server import board, moves, page
from wabcast.server.access import Denied, address_of
from wabcast.server.app import Part
from wabcast.server.desk import by_whole_id
from wabcast.server.idempotency import write_down
from wabcast.server.problems import log
from wabcast.server.sessions import COOKIE, Session, Sessions
from wabcast.store import accounts, database
from wabcast.store.events import acting

if TYPE_CHECKING:
    from starlette.requests import Request

    from wabcast.campaign import Campaign
    from wabcast.server.app import House
    from wabcast.store.database import Connection

LARGEST = 16 * 1024
"""Bytes of a form."""

Shown = Callable[["Connection", Session, "Request"], tuple[str, dict[str, Any]]]
"""Looks, in a thread: the template and what it takes. Raises NotFound and Forbidden."""


class Forbidden(Exception):
    """The token may not see this."""


def part(house: House) -> Part:
    pages = Pages(house)
    get, post = ["GET"], ["POST"]
    return Part(
        [
            Route("/", pages.view(pages.home), methods=get),
            Route("/parts/campaigns", pages.view(pages.rows), methods=get),
            Route("/campaigns/{id}", pages.view(pages.campaign), methods=get),
            Route("/parts/campaigns/{id}", pages.view(pages.state), methods=get),
            Route("/parts/campaigns/{id}/trouble", pages.view(pages.trouble), methods=get),
            Route("/campaigns/{id}/{verb}", pages.form(pages.move), methods=post),
            Route("/contacts", pages.view(pages.people), methods=get),
            Route("/accounts/{name}/check", pages.form(pages.check), methods=post),
            Route("/login", pages.greet, methods=get),
            Route("/login", pages.login, methods=post),
            Route("/logout", pages.form(pages.logout), methods=post),
            Route("/assets/{name}", page.asset, methods=get),
        ]
    )


class Pages:
    """Every page and what its forms do."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._sessions = Sessions(house.access, house.clock)
        self._board = board.Board(house.clock, house.path)

    # -- what each shows

    def home(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        shown = self.rows(db, session, request)[1]
        shown["accounts"] = self._board.accounts(db) if session.may("accounts:read") else None
        return "home.html", shown

    def rows(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        _need(session, "campaigns:read")
        before = request.query_params.get("before", "")
        known = int(before) if before.isdecimal() and len(before) < 19 else None
        return "rows.html", self._board.campaigns(db, known) | {"before": known}

    def campaign(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        shown = self.state(db, session, request)[1]
        campaign = shown["campaign"]
        shown |= self._board.trouble(db, campaign, session)
        told = self._board.history(db, campaign) if session.may("events:read") else []
        shown["history"] = told
        return "campaign.html", shown

    def state(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        campaign = self._named(db, session, request)
        return "state.html", self._board.campaign(db, campaign, session)

    def trouble(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        campaign = self._named(db, session, request)
        return "trouble.html", self._board.trouble(db, campaign, session)

    def people(self, db: Connection, session: Session, request: Request) -> tuple[str, Any]:
        _need(session, "contacts:read")
        said = "".join(filter(str.isprintable, request.query_params.get("q", "")[:200]))
        opted_out = "opted_out" in request.query_params
        asked = bool(said.strip()) or opted_out
        found = self._board.people(db, said, opted_out=opted_out) if asked else []
        shown = {"said": said, "opted_out": opted_out, "asked": asked, "people": found}
        return "contacts.html", shown | {"most": board.SHOWN}

    def _named(self, db: Connection, session: Session, request: Request) -> Campaign:
        _need(session, "campaigns:read")
        return by_whole_id(db, request.path_params["id"])

    # -- what forms do: each says where to look next

    def move(self, session: Session, request: Request, _said: Mapping[str, str]) -> str:
        verb = request.path_params["verb"]
        if verb not in board.VERBS:
            raise NotFound("there is nothing at this address")
        permission = board.VERBS[verb][1]
        _need(session, permission)
        clock = self._house.clock
        with self._house.connections.one() as db:
            campaign = by_whole_id(db, request.path_params["id"])
            match verb:
                case "start":
                    moves.start(db, campaign, clock)
                case "resume":
                    moves.resume(db, campaign, clock)
                case "pause":
                    moves.pause(db, self._house.path, campaign, clock)
                case _:
                    campaign = moves.duplicate(db, campaign, None, clock)
            where = f"POST /campaigns/{{id}}/{verb}"
            at = text(clock.now())
            write_down(db, permission, where, 303, campaign.id, at=at)
        session.notes.append(("good", _DONE[verb]))
        return f"campaigns/{campaign.id}"

    def check(self, session: Session, request: Request, _said: Mapping[str, str]) -> str:
        _need(session, "accounts:read")
        with self._house.connections.one() as db:
            account = accounts.get(db, request.path_params["name"])
        try:
            found = asyncio.run(health.ask(account, patience=moves.PATIENCE))
        except WabcastError as exc:
            # It may name a secret's source: that is for the log.
            log.warning("%s: %s", account.name, exc.message)
            session.notes.append(("bad", f"{account.name} cannot be asked; the log says why"))
            return ""
        told = f"{account.name}: {found.status.lower()}"
        if found.quality != "UNKNOWN":
            told += f", quality {found.quality.lower()}"
        session.notes.append(("good" if found.ok else "bad", told))
        session.notes += [("", problem) for problem in found.problems]
        return ""

    def logout(self, session: Session, _request: Request, _said: Mapping[str, str]) -> str:
        self._sessions.close(session)
        return "login"

    # -- coming in

    async def greet(self, request: Request) -> Response:
        if await self._session(request) is not None:
            return _to(request, "")
        return page.show("login.html", {"wrong": None}, request)

    async def login(self, request: Request) -> Response:
        said = await _form(request)
        if said is None or _is_from_elsewhere(request):
            return page.show("login.html", {"wrong": "Try again."}, request, status=400)
        try:
            token = said.get("token", "").strip()
            address = address_of(request.scope)
            session = await run_in_threadpool(self._sessions.open, token, address)
        except Denied as exc:
            many = "Too many wrong tokens from this address; wait a minute."
            wrong = many if exc.status == 429 else "This token does not stand."
            return page.show("login.html", {"wrong": wrong}, request, status=exc.status)
        except database.DatabaseError:
            return _unreadable(request)
        answer = _to(request, "")
        answer.set_cookie(COOKIE, session.id, **_cookie(request))
        return answer

    async def _session(self, request: Request) -> Session | None:
        cookie = request.cookies.get(COOKIE, "")
        return await run_in_threadpool(self._sessions.find, cookie) if cookie else None

    # -- around every page and form

    def view(self, look: Shown) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a page: who asks, what is seen, and what went wrong."""

        async def endpoint(request: Request) -> Response:
            try:
                session = await self._session(request)
                if session is None:
                    return self._unknown(request)
                name, shown = await run_in_threadpool(self._look, look, session, request)
            except (NotFound, Forbidden) as exc:
                return _error(request, exc)
            except database.DatabaseError:
                return _unreadable(request)
            return page.show(name, shown, request, session=session)

        return endpoint

    def _look(self, look: Shown, session: Session, request: Request) -> tuple[str, dict[str, Any]]:
        with self._house.connections.one() as db:
            return look(db, session, request)

    def _unknown(self, request: Request) -> Response:
        if request.url.path.startswith(f"{request.scope.get('root_path', '')}/parts/"):
            return HTMLResponse("", status_code=401, headers=page.HEADERS)
        return _to(request, "login")

    def form(
        self, do: Callable[[Session, Request, Mapping[str, str]], str]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a form: it is of this session, it is done once, and then one looks."""

        async def endpoint(request: Request) -> Response:
            said = await _form(request)
            session = None
            try:
                session = await self._session(request)
                if session is None:
                    return _to(request, "login")
                if said is None or _is_from_elsewhere(request):
                    return _error(request, Forbidden("the form is none of ours"))
                if not session.wrote(said.get("form", "")):
                    return _error(request, Forbidden("the form is of another log-in; try again"))
                where = await run_in_threadpool(_as_caller, session, do, request, said)
            except (NotFound, Forbidden) as exc:
                return _error(request, exc)
            except WabcastError as exc:
                if session is not None:
                    session.notes.append(("bad", exc.message))
                where = _back(request)
            except database.DatabaseError:
                return _unreadable(request)
            answer = _to(request, where)
            if session is not None and session.ended:
                answer.delete_cookie(COOKIE, **_cookie(request))
            return answer

        return endpoint


_DONE = {
    "start": "It starts as soon as the runner takes it.",
    "resume": "It goes on as soon as the runner takes it.",
    "pause": "Nothing more is taken up; what was on the wire is recorded.",
    "duplicate": "This is the copy: a draft, its recipients computed afresh.",
}


def _as_caller(
    session: Session,
    do: Callable[[Session, Request, Mapping[str, str]], str],
    request: Request,
    said: Mapping[str, str],
) -> str:
    acting.set(session.caller.actor)  # of this thread's context, which ends with the call
    return do(session, request, said)


def _need(session: Session, permission: str) -> None:
    if not session.may(permission):
        raise Forbidden(f"your token may not: {permission}")


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a posted form; None for what is too large or no form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return None
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=20)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}


def _is_from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site had this posted."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _cookie(request: Request) -> dict[str, Any]:
    """How the cookie is set, and taken away."""
    return {
        "httponly": True,
        "samesite": "strict",
        "secure": _is_https(request),
        "path": request.scope.get("root_path", "") or "/",
    }


def _is_https(request: Request) -> bool:
    told = request.headers.get("x-forwarded-proto", request.url.scheme)
    return told.partition(",")[0].strip() == "https"


def _back(request: Request) -> str:
    """The page that a form stands on."""
    asked = urlsplit(request.headers.get("referer", "")).path
    root = request.scope.get("root_path", "")
    return asked.removeprefix(root).lstrip("/") if asked.startswith(f"{root}/campaigns/") else ""


def _to(request: Request, where: str) -> RedirectResponse:
    target = f"{request.scope.get('root_path', '')}/{where}"
    return RedirectResponse(target, status_code=303, headers=page.HEADERS)


def _error(request: Request, exc: NotFound | Forbidden) -> Response:
    status = 404 if isinstance(exc, NotFound) else 403
    told = {"title": "Not found" if status == 404 else "Not for this token", "why": str(exc)}
    return page.show("error.html", told, request, status=status)


def _unreadable(request: Request) -> Response:
    log.error("the page: the database cannot be used")
    told = {"title": "Not now", "why": "The database cannot be used now. Try again shortly."}
    return page.show("error.html", told, request, status=503)
