"""What stands between a request and what it does: done once, and written down who did it.

What must not break: of several POSTs with one Idempotency-Key one is carried out, and all the
others get its answer for 24 hours. An answer that says to ask again (`Retry-After`) did nothing and
is not kept. A request that a crash cut off may have been carried out, so its key stays taken:
whoever asks again is told to look first.
"""

from __future__ import annotations

import hashlib
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders

from wabcast.clock import text
from wabcast.events import SERVER_ACTION, Event
from wabcast.server.problems import AGAIN, failure
from wabcast.store import database, events, tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from wabcast.server.access import Caller
    from wabcast.server.app import House
    from wabcast.store.database import Connection

LONGEST_KEY = 255
LARGEST = 1024 * 1024
"""Bytes of a body that is no upload, and of an answer that is kept."""

LARGEST_UPLOAD = 65 * 1024 * 1024
"""Bytes of an upload with what is around its file; the endpoint has a limit of its own."""

SPOOLED = 256 * 1024
"""Bytes of a body that stay in memory; more of it waits in a file without a name."""

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
        with SpooledTemporaryFile(SPOOLED) as kept:
            digest = await _digest(scope, headers.get("content-type", ""), receive, kept)
            if digest is None:
                await failure(413, "the body is too large")(scope, receive, send)
                return
            kept.seek(0)
            receive = _again(kept, receive)
            caller: Caller = scope["state"]["caller"]
            told_before = await run_in_threadpool(self._claim, caller.token.id, key, digest)
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
        except tokens.TooManyKeys:
            told = f"this token has {tokens.MOST_KEYS} Idempotency-Keys within 24 hours"
            return failure(429, told, headers={"retry-after": "3600"})
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
        if given.erased:
            return failure(
                410,
                f"the first request with this Idempotency-Key was answered with {given.status}; "
                "what was answered named somebody who has been erased since",
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


async def _digest(scope: Scope, kind: str, receive: Receive, kept: IO[bytes]) -> str | None:
    """The SHA-256 of what is asked, its body read into `kept`; None where that is too large.

    Of an upload the parts count, not how they are told apart: a client that asks again takes
    another boundary.
    """
    digest = hashlib.sha256()
    for part in (scope["path"].encode(), scope.get("query_string", b"")):
        digest.update(part + b"\0")
    upload = kind.startswith("multipart/")
    parser = _parts(kind, digest) if upload else None
    size = 0
    async for chunk in _chunks(receive):
        size += len(chunk)
        if size > (LARGEST_UPLOAD if upload else LARGEST):
            return None
        await run_in_threadpool(kept.write, chunk) if size > SPOOLED else kept.write(chunk)
        if parser is None:
            digest.update(chunk)
        else:
            try:
                parser.write(chunk)
            except MultipartParseError:  # whatever it is, it is itself
                parser = None
                digest.update(chunk)
    return digest.hexdigest()


def _parts(kind: str, digest: hashlib._Hash) -> MultipartParser | None:
    """What tells `digest` of each part: its headers and what is in it."""
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary:
        return None

    def data(chunk: bytes, start: int, end: int) -> None:
        digest.update(chunk[start:end])

    def between() -> None:
        digest.update(b"\0")

    return MultipartParser(
        boundary,
        {
            "on_part_begin": between,
            "on_header_field": data,
            "on_header_value": data,
            "on_header_end": between,
            "on_headers_finished": between,
            "on_part_data": data,
            "on_part_end": between,
        },
    )


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _again(kept: IO[bytes], receive: Receive) -> Receive:
    """The body that was read, once more; then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        body = await run_in_threadpool(kept.read, SPOOLED)
        given = len(body) < SPOOLED
        return {"type": "http.request", "body": body, "more_body": not given}

    return replay
