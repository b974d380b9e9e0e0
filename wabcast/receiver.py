"""`webhook serve`: where WhatsApp posts what became of the messages.

What a reader must not break: nothing that is not signed is believed where strangers can reach
us, and nobody is told 200 before the body is on disk. A 503 makes WhatsApp come again, for days.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from wabcast.clock import SECOND, Clock
from wabcast.connection_limits import BoundedProtocol, ConnectionLimiter, Limits
from wabcast.errors import NotFound, Refused, UsageError, WabcastError
from wabcast.store import accounts, database, inbox
from wabcast.webhooks import BUSY, FORGED, OK, Webhooks, prune

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from wabcast.providers.base import Provider
    from wabcast.store.accounts import Account

LARGEST = 3 * 1024 * 1024
"""Bytes of a body (PROVIDERS 3.2)."""

REMEMBERED = 5 * SECOND
"""How long an account's row is not looked at again."""

SETTLE_EVERY, PRUNE_EVERY = 30.0, 86_400.0
BACKLOG = 2048

log = logging.getLogger("wabcast.receiver")

Build = Callable[["Account"], "Provider"]


@dataclass(slots=True)
class _Door:
    """An account as the receiver knows it; `until` by the steady clock."""

    account: Account
    provider: Provider
    signed: bool
    until: int


class Doors:
    """The accounts, their providers built when they are first asked for and when they change."""

    def __init__(self, path: Path, clock: Clock, build: Build) -> None:
        self._path = path
        self._db = database.connect(path)
        self._clock = clock
        self._build = build
        self._doors: dict[str, _Door] = {}

    def get(self, name: str) -> _Door:
        """Raises NotFound, and WabcastError where a secret cannot be read."""
        door = self._doors.get(name)
        now = self._clock.steady()
        if door is not None and now < door.until:
            return door
        account = accounts.get(self._db, name)
        if door is None or door.account != account:
            provider = self._build(account)
            door = self._doors[name] = _Door(account, provider, is_signed(account, provider), 0)
        door.until = now + REMEMBERED
        return door

    def reader(self, account_id: int) -> Provider | None:
        """For bodies that an earlier process kept. The thread that applies asks, so it looks on
        a connection of its own."""
        db = database.connect(self._path)
        try:
            found = next((one for one in accounts.every(db) if one.id == account_id), None)
            return self._build(found) if found is not None else None
        except WabcastError as exc:
            log.warning("%s", exc.message)
            return None
        finally:
            db.close()

    def waiting(self) -> int:
        return inbox.count_waiting(self._db)

    async def aclose(self) -> None:
        for door in self._doors.values():
            await door.provider.aclose()
        self._db.close()


def is_signed(account: Account, provider: Provider | type[Provider]) -> bool:
    """Whether the account has a secret of its own that its webhooks are signed with."""
    keys: tuple[str, ...] = getattr(provider, "signing_secrets", ("app_secret",))
    return any(account.secrets.get(key) for key in keys)


def build_app(
    doors: Doors, webhooks: Webhooks, *, exposed: bool = False, unsigned: bool = False
) -> Starlette:
    """`exposed`: strangers can reach it, so what has no secret is refused. `unsigned`: on
    loopback, accounts without a secret are believed."""

    async def challenge(request: Request) -> Response:
        try:
            door = doors.get(request.path_params["account"])
        except NotFound:
            return Response(status_code=404)
        except WabcastError as exc:
            return _cannot(exc)
        answer = door.provider.challenge(dict(request.query_params))
        if answer is None:
            return Response(status_code=403)
        return PlainTextResponse(answer, headers={"x-content-type-options": "nosniff"})

    async def take(account: str, scope: Scope, receive: Receive) -> Response:
        try:
            door = doors.get(account)
        except NotFound:
            return _UNKNOWN
        except WabcastError as exc:
            return _cannot(exc)
        if exposed and not door.signed:
            return _FORGED
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        try:
            body = await _body(headers, receive)
        except ClientDisconnect:
            return _CUT_OFF
        if body is None:
            return _TOO_MUCH
        status = await webhooks.receive(
            door.account,
            door.provider,
            headers,
            body,
            unsigned=unsigned and not exposed and not door.signed,
        )
        return _ANSWERS[status]

    async def health(_request: Request) -> Response:
        try:
            waiting = doors.waiting()
        except database.DatabaseError as exc:
            return JSONResponse({"ok": False, "error": str(exc)}, status_code=503)
        return JSONResponse({"ok": True, "waiting": waiting})

    return Starlette(
        routes=[
            Route("/webhooks/{account}", challenge, methods=["GET"]),
            Route("/webhooks/{account}", _Taking(take), methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ]
    )


Take = Callable[[str, "Scope", "Receive"], Awaitable[Response]]


class _Taking:
    """`take` as an ASGI app: what Starlette wraps around a function cost as much as the rest of a
    post."""

    def __init__(self, take: Take) -> None:
        self._take = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._take(scope["path_params"]["account"], scope, receive)
        await answer(scope, receive, send)


_AGAIN = {"retry-after": "5"}
_KEPT, _FORGED, _BUSY = (
    Response(status_code=OK),
    Response(status_code=FORGED),
    Response(status_code=BUSY, headers=_AGAIN),
)
_ANSWERS = {OK: _KEPT, FORGED: _FORGED, BUSY: _BUSY}
_UNKNOWN, _CUT_OFF = Response(status_code=404), Response(status_code=400)
_TOO_MUCH = Response(status_code=413, headers={"connection": "close"})


def _cannot(exc: WabcastError) -> Response:
    log.warning("%s", exc.message)
    return _BUSY


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes | None:
    """The raw body; None where it is too large, however long it says it is."""
    told = headers.get("content-length", "")
    if told.isdecimal() and int(told[:12]) > LARGEST:
        return None
    chunks, size, more = [], 0, True
    while more:
        part = await receive()
        if part["type"] != "http.request":
            raise ClientDisconnect
        chunks.append(part.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST:
            return None
        more = part.get("more_body", False)
    return b"".join(chunks)


def guard(known: Iterable[tuple[Account, bool]], host: str, *, exposed: bool) -> None:
    """Refuse to listen where strangers are and an account's webhooks could be forged.

    `known`: the accounts, and whether each is signed.
    """
    if not exposed:
        return
    any_signed = False
    for account, signed in known:
        any_signed = any_signed or signed
        if not signed and account.provider != "sandbox":  # which is answered with 401 there
            raise Refused(
                f"anybody who reaches {host} could forge receipts of {account.name!r}: it has no "
                "secret that signs them",
                hint=f"wabcast account edit {account.name} --app-secret env:VARIABLE, "
                "or listen on 127.0.0.1 behind a proxy",
            )
    if not any_signed:
        raise Refused(
            f"no account has a secret that signs its webhooks, so nothing at {host} is believed",
            hint="wabcast account edit NAME --app-secret env:VARIABLE",
        )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; UsageError where that cannot be. Port 0 takes a free one."""
    name = host.strip("[]")
    listening = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((name, port))
    except (OSError, OverflowError) as exc:
        listening.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {getattr(exc, 'strerror', None) or exc}",
            hint="another program is there; --port 0 takes a free one",
        ) from exc
    return listening


class Server(uvicorn.Server):
    """uvicorn within limits and without its own ideas of signals; says when it listens."""

    def __init__(
        self,
        app: Starlette,
        ready: Callable[[], None],
        limits: Limits,
        protocol: type[BoundedProtocol] = BoundedProtocol,
    ) -> None:
        self.limiter = ConnectionLimiter(limits)
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(protocol, self.limiter),  # type: ignore[arg-type]  # makes one
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=limits.idle_seconds,
                timeout_graceful_shutdown=5,
            )
        )
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # of a tenth of a second each
            self.limiter.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


async def serve(
    app: Starlette,
    doors: Doors,
    webhooks: Webhooks,
    listening: socket.socket,
    *,
    path: Path,
    clock: Clock,
    limits: Limits,
    ready: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Receive until `stop` is set, then answer what is on the wire and apply what was kept.

    `ready` is told the base URL as soon as it listens.
    """
    host, port = listening.getsockname()[:2]
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    server = Server(app, lambda: ready(where), limits)
    webhooks.start()
    try:
        async with upkeep(webhooks, path=path, clock=clock):
            serving = asyncio.create_task(server.serve([listening]))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            server.should_exit = True
            await serving
            await webhooks.settled()
    finally:
        await webhooks.aclose()
        await doors.aclose()
        listening.close()


@asynccontextmanager
async def upkeep(webhooks: Webhooks, *, path: Path, clock: Clock) -> AsyncIterator[None]:
    """What goes on beside the receiving: early receipts are tried again, old bodies pruned."""
    beside = [
        asyncio.create_task(_settle(webhooks, clock)),
        asyncio.create_task(_prune(path, clock)),
    ]
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)


async def _settle(webhooks: Webhooks, clock: Clock) -> None:
    """What came before its message's id was known is tried again now and then."""
    while True:
        await clock.sleep(SETTLE_EVERY)
        await webhooks.settled()


async def _prune(path: Path, clock: Clock) -> None:
    while True:
        try:
            await asyncio.to_thread(_prune_once, path, clock)
        except (database.DatabaseError, WabcastError) as exc:
            log.warning("old webhooks could not be pruned: %s", exc)
        await clock.sleep(PRUNE_EVERY)


def _prune_once(path: Path, clock: Clock) -> None:
    db = database.connect(path)
    try:
        prune(db, clock)
    finally:
        db.close()
