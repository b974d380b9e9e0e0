"""What stands between a request and what it does: done once, and written down who did it.

What must not break: of several POSTs with one Idempotency-Key one is carried out, and all the
others get its answer for 24 hours. An answer that says to ask again (`Retry-After`) did nothing and
is not kept. A request that a crash cut off may have been carried out, so its key stays taken:
whoever asks again is told to look first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders

from wabcast.clock import text
from wabcast.events import SERVER_ACTION, Event
from wabcast.server.problems import AGAIN, failure
from wabcast.store import database, events, tokens

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wabcast.server.access import Caller
    from wabcast.server.app import House
    from wabcast.store.database import Connection

LONGEST_KEY = 255
LARGEST = 1024 * 1024
"""Bytes of a body that is compared, and of an answer that is kept."""

REPLAYED = "idempotency-replayed"
_PASSING = frozenset({408, 413, 429})
"""Statuses of requests that were not carried out, whatever their headers say."""


class Once:
    """Carries out a POST with an Idempotency-Key once; everything else passes."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        key = headers.get("idempotency-key")
        if scope["type"] != "http" or scope["method"] != "POST" or key is None:
            await self._app(scope, receive, send)
            return
        if not key or len(key) > LONGEST_KEY or not key.isprintable():
            told = f"an Idempotency-Key has 1 to {LONGEST_KEY} printable characters"
            await failure(400, told)(scope, receive, send)
            return
        if not headers.get("content-type", "").startswith("multipart/"):
            body = await _whole(receive)
            if body is None:
                await failure(413, "the body is too large")(scope, receive, send)
                return
            receive = _again(body, receive)
        else:  # its boundary is another each time; and nobody wants it in memory
            body = b""
        caller: Caller = scope["state"]["caller"]
        told_before = await run_in_threadpool(
            self._claim, caller.token.id, key, _digest(scope, body)
        )
        if told_before is not None:
            await told_before(scope, receive, send)
            return
        await self._carry(scope, receive, send, caller.token.id, key)

    def _claim(self, token: int, key: str, request: str) -> ASGIApp | None:
        """What is to be answered instead; None where the key is ours now."""
        try:
            with self._house.connections.one() as db:
                given = tokens.claim(db, token, key, request, self._house.clock.now())
        except database.DatabaseError:
            return failure(503, "the database cannot be used now", headers=AGAIN)
        if given is None:
            return None
        if given.request != request:
            return failure(422, "this Idempotency-Key belongs to another request")
        if given.status is None:
            return failure(
                409,
                "the first request with this Idempotency-Key has no answer yet, or was cut off; "
                "look whether it was carried out before you ask with another key",
                headers=AGAIN,
            )
        return _Kept(given)

    async def _carry(
        self, scope: Scope, receive: Receive, send: Send, token: int, key: str
    ) -> None:
        answer: dict[str, Any] = {"status": 500, "headers": {}, "body": b""}

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                answer["headers"] = dict(Headers(raw=message["headers"]))
            else:
                answer["body"] += message.get("body", b"")
                if not message.get("more_body", False):
                    # On disk before it is told: whoever asks again gets this.
                    await run_in_threadpool(self._keep, token, key, answer)
            await send(message)

        await self._app(scope, receive, keeping)

    def _keep(self, token: int, key: str, answer: dict[str, Any]) -> None:
        status, body = answer["status"], answer["body"]
        headers = {k: v for k, v in answer["headers"].items() if k == "content-type"}
        passing = status >= 500 or status in _PASSING or "retry-after" in answer["headers"]
        with self._house.connections.one() as db:
            if passing or len(body) > LARGEST:
                tokens.let_go(db, token, key)
            else:
                tokens.answer(db, token, key, status, headers, body)


class _Kept:
    """The answer of the first request, once more."""

    def __init__(self, given: tokens.Given) -> None:
        self._given = given

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = MutableHeaders(headers={**self._given.headers, REPLAYED: "true"})
        headers["content-length"] = str(len(self._given.body))
        start = {"type": "http.response.start", "status": self._given.status}
        await send({**start, "headers": headers.raw})
        await send({"type": "http.response.body", "body": self._given.body})


class Told:
    """Writes down, before it is answered, what a token has had done: `server:action`."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                await run_in_threadpool(self._tell, scope, message["status"])
            await send(message)

        await self._app(scope, receive, telling)

    def _tell(self, scope: Scope, status: int) -> None:
        # The route and not the address: an address may hold a person's number.
        route = getattr(scope.get("route"), "path", "")
        action = scope["state"].get("permission", "")
        request = f"{scope['method']} {route}"
        campaign = scope.get("path_params", {}).get("id")
        with self._house.connections.one() as db:
            write_down(db, action, request, status, campaign, at=text(self._house.clock.now()))


def write_down(
    db: Connection, action: str, request: str, status: int, campaign: str | None, *, at: str
) -> None:
    """What whoever is `acting` has had done, as an event: `action` is the permission it took."""
    told = {"action": action, "request": request, "status": status}
    events.add(db, Event(SERVER_ACTION, campaign, told), at=at)


def _digest(scope: Scope, body: bytes) -> str:
    asked = b"\0".join((scope["path"].encode(), scope.get("query_string", b""), body))
    return hashlib.sha256(asked).hexdigest()


async def _whole(receive: Receive) -> bytes | None:
    """The body; None where it is too large."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks)
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once more; then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
