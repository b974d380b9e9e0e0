"""Socket.IO: the seed's events to whoever watches, out of the log and as they are committed.

    const socket = io(url, { auth: { token } })
    socket.on("campaign:progress", ({ campaignId, processedCount, totalRecipients }) => ...)

What must not break: each client has every event of its room once and in order, from when it
came, or from the last it had seen; one that does not read is cut off before it costs memory,
and takes up where it was when it comes back.

An event carries its id as a last argument, and the answer to CONNECT a `pid`: that is how the
clients of Socket.IO 4.6 and later ask for what they missed, unasked (connection state recovery).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import socketio
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as NotLetIn
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount

from wabcast.clock import SECOND
from wabcast.connection_limits import connection_of
from wabcast.events import without_people
from wabcast.server.access import Denied, address_of
from wabcast.server.app import Part
from wabcast.server.problems import log
from wabcast.server.websocket import LONGEST
from wabcast.store import database, events

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from wabcast.connection_limits import Connection
    from wabcast.server.access import Caller
    from wabcast.server.app import House

PATH = "/socket.io"

PEOPLE, EVENTS, CAMPAIGNS = "contacts:read", "events:read", "campaigns:read"
"""The rooms, by what their members may: all that happens, the same without the numbers of people,
or what is told of campaigns."""

LOOK_EVERY = 0.1
"""Seconds between looks at the log."""

BEAT_EVERY = 10 * SECOND
"""Between looks at who still may listen."""

PAGE = 200
AT_ONCE, STRANGERS = 1000, 200
"""Clients at once, and sockets that have not said whose they are."""

BEHIND = 500
"""Packets that wait for a client; then it is cut off."""

LOG = "wabcast-log"
"""The `pid` of all: what there is to recover is the log, whoever asks."""


class Packet(packet.Packet):  # type: ignore[misc]  # socketio is not typed
    """As the library has it, and with what makes a client remember the last id it saw."""

    data: Any

    def encode(self) -> Any:
        if self.packet_type == packet.CONNECT and isinstance(self.data, dict):
            self.data = {**self.data, "pid": LOG}
        return super().encode()

    def decode(self, encoded_packet: Any) -> Any:
        if super().decode(encoded_packet):
            raise ValueError("nobody tells us anything with attachments, which wait in memory")


@dataclass(slots=True)
class Client:
    """One that was let in. `seen`: the last event it has; None once it hears with its room."""

    caller: Caller
    room: str
    seen: int | None


class Live:
    """All clients of this server, and the one task that reads the log for them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._clients: dict[str, Client] = {}
        self._strangers: set[str] = set()
        self._known: set[str] = set()  # by Engine.IO's id, as the next
        self._lines: dict[str, Connection] = {}
        self._seen = 0
        quiet = logging.getLogger("wabcast.live")
        quiet.setLevel(logging.ERROR)
        self.io = socketio.AsyncServer(
            async_mode="asgi",
            serializer=Packet,
            max_http_buffer_size=LONGEST,
            logger=quiet,
            engineio_logger=quiet,
        )
        self.io.on("connect", self._connect)
        self.io.on("disconnect", self._disconnect)
        self._io_app = socketio.ASGIApp(self.io, socketio_path=PATH)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Socket.IO, which itself takes any number of clients that never say who they are."""
        sid = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("sid", "")
        if not sid:
            await self._make_room()
        line = connection_of(scope)
        if line is not None:
            if sid and scope["type"] == "websocket":
                self._lines[sid] = line
            stays = sid in self._known and line.limiter.keep(line)
            if not stays:
                line.mark_unknown()  # a poll; a WebSocket begins so
        try:
            await self._io_app(scope, receive, send)
        finally:
            if self._lines.get(sid) is line:
                self._lines.pop(sid, None)

    @asynccontextmanager
    async def carried(self) -> AsyncIterator[None]:
        """Tell what happens for as long as this is entered."""
        self._seen = await run_in_threadpool(self._last)
        feeding = asyncio.create_task(self._feed())
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
            await self.io.shutdown()

    # -- who comes and goes

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:
        said = auth if isinstance(auth, dict) else {}
        token = said.get("token")
        try:
            caller = await run_in_threadpool(
                self._house.access.caller,
                token if isinstance(token, str) else "",
                address_of(environ["asgi.scope"]),
            )
            last = await run_in_threadpool(self._last)
        except Denied as exc:
            many = "too many wrong tokens from this address; wait a minute"
            raise NotLetIn(many if exc.status == 429 else "a token that stands is needed") from None
        except database.DatabaseError:
            raise NotLetIn("the database does not answer") from None
        room = next((room for room in (EVENTS, CAMPAIGNS) if caller.may(room)), None)
        if room == EVENTS and caller.may(PEOPLE):
            room = PEOPLE
        if room is None:
            raise NotLetIn(f"this token may not: {EVENTS}")
        if len(self._clients) >= AT_ONCE:
            raise NotLetIn("too many are listening")
        eio_sid = self.io.manager.eio_sid_from_sid(sid, "/")
        scope = environ["asgi.scope"]
        line = self._lines.get(eio_sid)  # it went over to a WebSocket before it said who it is
        if line is None and scope["type"] == "websocket":
            line = connection_of(scope)
        if line is not None and not line.limiter.keep(line):
            raise NotLetIn("too many are listening")
        self._clients[sid] = Client(caller, room, min(_offset(said, last), last))
        self._known.add(eio_sid)

    async def _disconnect(self, sid: str, _reason: object = None) -> None:
        self._clients.pop(sid, None)
        self._known.discard(self.io.manager.eio_sid_from_sid(sid, "/"))

    async def _make_room(self) -> None:
        """Where there are too many sockets of strangers, the oldest go."""
        sockets = self.io.eio.sockets
        if len(sockets) - len(self._known) < STRANGERS:
            return
        strangers = (eio_sid for eio_sid in list(sockets) if eio_sid not in self._known)
        for eio_sid in islice(strangers, 1 + STRANGERS // 32):
            await self._cut(eio_sid)
            sockets.pop(eio_sid, None)

    # -- what they are told

    async def _feed(self) -> None:
        clock, beat = self._house.clock, self._house.clock.steady()
        while not self._house.closing.is_set():
            try:
                busy = await self._tell_all()
                busy |= await self._catch_up()
                if clock.steady() - beat >= BEAT_EVERY:
                    beat = clock.steady()
                    await self._look_round()
            except database.DatabaseError as exc:
                log.warning("the log cannot be read now: %s", exc)
                busy = False
            if not busy:
                await clock.sleep(LOOK_EVERY)
        # Not a disconnect of Socket.IO's, after which a client would not come back by itself.
        for eio_sid in list(self.io.eio.sockets):
            await self._cut(eio_sid)

    async def _tell_all(self) -> bool:
        """What has happened since the last look, to whoever hears with the room."""
        page = await run_in_threadpool(self._page, self._seen)
        for event in page.events:
            for room in (PEOPLE, EVENTS, CAMPAIGNS):
                if _is_for(event, room):
                    await self._emit(event, room, room)
        self._seen = page.seen
        if page.events:
            await self._cut_off_who_does_not_read()
        return not page.whole

    async def _catch_up(self) -> bool:
        """Bring who came, or came back, to where the room is: a page each time."""
        busy = False
        for sid, client in list(self._clients.items()):
            if client.seen is None or not self.io.manager.is_connected(sid, "/"):
                continue
            while client.seen < self._seen:
                page = await run_in_threadpool(self._page, client.seen)
                told = [e for e in page.events if int(e["id"]) <= self._seen]
                for event in told:
                    if _is_for(event, client.room):
                        await self._emit(event, client.room, sid)
                client.seen = self._seen if page.whole else min(page.seen, self._seen)
                busy = True
                if self._waiting(sid) > BEHIND - PAGE:
                    break  # it has enough to read for now
            if client.seen == self._seen:
                client.seen = None
                await self.io.enter_room(sid, client.room)
        return busy

    async def _emit(self, event: dict[str, Any], room: str, to: str) -> None:
        event = event if room == PEOPLE else without_people(event)
        await self.io.emit(event["event"], (event["data"], str(event["id"])), to=to)

    def _page(self, since: int) -> events.Page:
        with self._house.connections.one() as db:
            return events.page(db, since, limit=PAGE)

    def _last(self) -> int:
        with self._house.connections.one() as db:
            return events.last_id(db)

    # -- who is told no more

    def _waiting(self, sid: str) -> int:
        """Packets that this client has not taken yet."""
        socket = self.io.eio.sockets.get(self.io.manager.eio_sid_from_sid(sid, "/"))
        return 0 if socket is None else int(socket.queue.qsize())

    async def _cut_off_who_does_not_read(self) -> None:
        for sid in list(self._clients):
            if self._waiting(sid) > BEHIND:
                await self._cut(self.io.manager.eio_sid_from_sid(sid, "/"))

    async def _cut(self, eio_sid: str) -> None:
        """Close the connection as a network does; a client that is alive comes back."""
        socket = self.io.eio.sockets.get(eio_sid)
        if socket is not None:
            await socket.close(wait=False)

    async def _look_round(self) -> None:
        """Send away whose token counts no more, and who never showed one or went half-way."""
        still: dict[int, bool] = {}
        known, halfway = set(), set()
        for sid, client in list(self._clients.items()):
            if not self.io.manager.is_connected(sid, "/"):
                halfway.add(sid)
                if sid in self._strangers:
                    del self._clients[sid]
                continue
            known.add(self.io.manager.eio_sid_from_sid(sid, "/"))
            token = client.caller.token.id
            if token not in still:
                still[token] = await run_in_threadpool(self._house.access.still, client.caller)
            if not still[token]:
                await self.io.disconnect(sid)
        strangers = set(self.io.eio.sockets) - known
        for eio_sid in strangers & self._strangers:
            await self._cut(eio_sid)
        self._strangers = strangers | halfway


def part(house: House) -> Part:
    live = Live(house)
    return Part([Mount(PATH, app=live.app)], live.carried)


def _is_for(event: Mapping[str, Any], room: str) -> bool:
    return room != CAMPAIGNS or str(event["event"]).startswith("campaign:")


def _offset(said: Mapping[str, Any], last: int) -> int:
    """The last id that a client says it has seen; `last` where it says none."""
    offset = said.get("offset")
    known = isinstance(offset, str) and offset.isdecimal() and len(offset) < 19
    return int(str(offset)) if known else last
