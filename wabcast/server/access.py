"""Who is asking, and what they may: Bearer tokens, looked up anew for each request.

What must not break: nothing of a request is read before its token stands, a wrong token takes
as long as none, and who fails too often is told to wait. One that is right is never made to:
behind a proxy all the world has one address.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from wabcast.clock import SECOND, Clock
from wabcast.connection_limits import connection_of
from wabcast.server.problems import failure
from wabcast.store import database, tokens
from wabcast.store.events import acting
from wabcast.tokens import Token

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from wabcast.server.connections import Connections

FAILURES, WITHIN = 10, 60 * SECOND
"""So many wrong tokens an address may show in that time; then it is answered 429."""

ADDRESSES = 10_000
"""Addresses remembered at once; the oldest is forgotten first."""


class Denied(Exception):
    """No token that stands: 401, or 429 for an address that has tried too often."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is. `actor` is what the events say did it."""

    token: Token

    @property
    def actor(self) -> str:
        return f"token:{self.token.name}"

    def may(self, permission: str) -> bool:
        return permission in self.token.permissions


class Access:
    """Tells callers by their tokens, and counts failures by address."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def caller(self, token: str, address: str) -> Caller:
        """Whose token this is, now. Raises Denied. Call it in a thread: it reads the file."""
        now = self._clock.now()
        with self._connections.one() as db:
            found = tokens.find(db, token, now)
            if found is not None:
                tokens.used(db, found, now)
                return Caller(found)
        raise Denied(429 if self._too_often(address) else 401)

    def still(self, caller: Caller) -> bool:
        """Whether the token stands yet, for what goes on for long."""
        with self._connections.one() as db:
            return any(
                token.id == caller.token.id and token.stands(self._clock.now())
                for token in tokens.every(db)
            )

    def _too_often(self, address: str) -> bool:
        now = self._clock.steady()
        recent = [at for at in self._failures.pop(address, []) if at > now - WITHIN]
        blocked = len(recent) >= FAILURES
        self._failures[address] = recent if blocked else [*recent, now]
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)
        return blocked


def bearer(headers: Headers) -> str:
    """The token of an Authorization header; empty where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def address_of(scope: Scope) -> str:
    """Where a request or a socket comes from; all that come over a Unix socket are one."""
    return scope["client"][0] if scope.get("client") else "local"


class Guarded:
    """Lets nobody in without a token, but to the paths that are `open`.

    Whose it is stands in `scope["state"]["caller"]`, and in `acting` while it is carried out.
    """

    def __init__(self, app: ASGIApp, access: Access, unguarded: Iterable[str] = ()) -> None:
        self._app = app
        self._access = access
        self._open = frozenset(unguarded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path in self._open:
            await self._app(scope, receive, send)
            return
        token = bearer(Headers(scope=scope))
        connection = connection_of(scope)
        if connection is not None:
            connection.mark_unknown()
        try:
            caller = await run_in_threadpool(self._access.caller, token, address_of(scope))
        except Denied as exc:
            await _denial(exc)(scope, receive, send)
            return
        except database.DatabaseError:
            await failure(503, "the database does not answer")(scope, receive, send)
            return
        if connection is not None:
            connection.mark_known()
        scope.setdefault("state", {})["caller"] = caller
        before = acting.set(caller.actor)
        try:
            await self._app(scope, receive, send)
        finally:
            acting.reset(before)


def _denial(denied: Denied) -> ASGIApp:
    if denied.status == 429:
        told = "too many wrong tokens from this address; wait a minute"
        return failure(429, told, headers={"retry-after": "60"})
    told = "a token that stands is needed: Authorization: Bearer TOKEN"
    return failure(401, told, headers={"www-authenticate": 'Bearer realm="wabcast"'})
