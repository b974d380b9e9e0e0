"""What strangers may hold of this process: connections, bytes and time.

Invariant: the open connections stay so far below the limit of open files that the database and the
runner always get theirs; the bytes of unfinished requests stay below one bound over all
connections; nobody is waited for without end. Where there is not enough for all, whoever kept us
waiting longest goes first, so that a request which comes in whole is answered.

uvicorn has none of these limits with httptools. They cost no timer a request: the server looks at
all connections once a second.
"""

from __future__ import annotations

import resource
import weakref
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MOST_FILES = 8192
"""The limit of open files that is asked for, where the machine allows it."""

RESERVED_FILES = 128
"""Files that are not for connections: the database, the runner's sends, logs, child processes."""

MOST_CONNECTIONS = 1000

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    connections: int = MOST_CONNECTIONS
    header_bytes: int = 64 * KIB
    header_count: int = 128
    header_seconds: float = 10.0
    idle_seconds: int = 60
    """Between two requests."""
    body_seconds: float = 20.0
    """For a body, and a second more for each `body_rate` bytes of it that have come."""
    body_rate: int = 16 * KIB
    request_seconds: float = 600.0
    drain_seconds: float = 5.0
    """For the rest of a request that is answered already."""
    unread_seconds: float = 30.0
    """How long a client may leave an answer unread."""
    closing_seconds: float = 10.0
    bytes_in_flight: int = 32 * MIB
    """Of requests without an answer, over all connections."""
    bytes_counted: int = 4 * MIB
    """No request holds more in memory: larger uploads go to a file."""
    pipelined: int = 16


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as is allowed and useful; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a sandbox may forbid it; then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def limits_for(files: int) -> Limits:
    """The limits of a process that may open so many files."""
    return Limits(connections=min(MOST_CONNECTIONS, max(files // 4, files - RESERVED_FILES)))


class State(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The peer, for the first byte of a request."""
    HEADERS = auto()
    BODY = auto()
    DRAIN = auto()
    """The peer, for the rest of a request that needs no reading any more."""
    STRANGER = auto()
    """The peer, to say who it is: it holds a stream open that it has not shown a token for."""
    WORKING = auto()
    """Us, for an answer."""
    KEPT = auto()
    """A stream of somebody with a token."""


IDLE, HEADERS, BODY, DRAIN = State.IDLE, State.HEADERS, State.BODY, State.DRAIN
STRANGER, WORKING, KEPT = State.STRANGER, State.WORKING, State.KEPT
WAITING = frozenset({IDLE, HEADERS, BODY, DRAIN, STRANGER})
# By these names: looking a member up in its class costs a request some microseconds.


class Connection:
    """What the limiter knows of a connection, HTTP or WebSocket: a base of their protocols."""

    limiter: ConnectionLimiter
    transport: asyncio.Transport

    state = IDLE
    since = 0.0
    """When we began to wait for the peer."""
    fresh = True
    """No request has come yet."""
    held = 0
    """Bytes that count as in flight."""
    received = 0
    """Bytes of the request that comes in."""
    unread_since: float | None = None
    closing_since: float | None = None

    def refuse(self, status: int) -> None:
        """Say why, where that can be said, and close."""
        del status
        self.cut()

    def mark_unknown(self) -> None:
        """What is worked on is of somebody not yet known, and gives way to others."""
        if self.state is State.WORKING:
            self.state = State.STRANGER

    def mark_known(self) -> None:
        """It showed a token."""
        if self.state is State.STRANGER:
            self.state = State.WORKING

    def cut(self) -> None:
        """Close at once, whatever has not been read yet."""
        self.transport.abort()


class ConnectionLimiter:
    """All connections of a server. `now` is always the event loop's time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.in_flight = 0
        self._open: dict[Connection, None] = {}
        self._kept = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may come in before something is answered."""
        return self.in_flight > self.limits.bytes_in_flight

    def opened(self, connection: Connection, now: float) -> None:
        """Take it up. Over the limit those go that were waited for longest; where we wait for
        nobody, the new one."""
        connection.since = now
        self._open[connection] = None
        if len(self._open) <= self.limits.connections:
            return
        waiting = self._waiting(but=connection)
        # Several at once: not for each of a flood are all connections looked at.
        for one in islice(waiting, 1 + self.limits.connections // 32):
            one.refuse(408)
        if not waiting:
            connection.refuse(503)

    def closed(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self.let_go(connection)
            self.unkeep(connection)

    def keep(self, connection: Connection) -> bool:
        """A stream of somebody known may stay. False: there are too many of them."""
        if connection.state is KEPT:
            return True
        if self._kept >= self.limits.connections // 2:
            return False
        connection.state = KEPT
        self._kept += 1
        return True

    def unkeep(self, connection: Connection) -> None:
        if connection.state is KEPT:
            connection.state = WORKING
            self._kept -= 1

    def took(self, connection: Connection, size: int) -> None:
        """Count bytes that came in. Over the bound the oldest unfinished request goes."""
        room = self.limits.bytes_counted - connection.held
        size = size if size < room else room
        connection.held += size
        self.in_flight += size
        if self.in_flight > self.limits.bytes_in_flight:
            for one in self._waiting():
                if one.held:
                    self.let_go(one)
                    one.refuse(503)
                if not self.is_full:
                    return

    def let_go(self, connection: Connection) -> None:
        self.in_flight -= connection.held
        connection.held = 0

    def _waiting(self, *, but: Connection | None = None) -> list[Connection]:
        """Those that keep us waiting, the longest first."""
        found = [
            one
            for one in self._open
            if one.state in WAITING and one is not but and not one.transport.is_closing()
        ]
        return sorted(found, key=lambda one: one.since)

    def sweep(self, now: float) -> None:
        """Close what is over its time. Call it about once a second."""
        limits = self.limits
        for one in list(self._open):
            if one.transport.is_closing():
                one.closing_since = now if one.closing_since is None else one.closing_since
                if now - one.closing_since > limits.closing_seconds:
                    one.cut()
            elif one.unread_since is not None and now - one.unread_since > limits.unread_seconds:
                one.cut()
            elif one.state in WAITING and now - one.since > self._allowed(one):
                one.refuse(408)

    def _allowed(self, connection: Connection) -> float:
        """Seconds for which the connection may keep us waiting."""
        limits = self.limits
        match connection.state:
            case State.IDLE if not connection.fresh:
                return limits.idle_seconds
            case State.BODY:
                earned = limits.body_seconds + connection.received / limits.body_rate
                return min(earned, limits.request_seconds)
            case State.DRAIN:
                return limits.drain_seconds
            case _:
                return limits.header_seconds


CONNECTION = "wabcast.connection"
"""Where a request's `scope["state"]` has a weak reference to its connection."""


def keep(scope: Mapping[str, Any]) -> bool:
    """Let a request that goes on for long, of somebody known, stay. False: there are too many."""
    connection = connection_of(scope)
    return connection is None or connection.limiter.keep(connection)


def connection_of(scope: Mapping[str, Any]) -> Connection | None:
    """The connection of a request; None where no server is below the application."""
    reference = scope.get("state", {}).get(CONNECTION)
    return None if reference is None else reference()


class TooLarge(Exception):
    """The headers of a request, or too many requests at once. Ends the parser's work."""


_DETAIL = {
    400: "invalid http request received",
    408: "the request took too long",
    431: "the headers are too large",
    503: "too much comes in at once",
}

# Chunks of a byte each are six on the wire; more is no body but its framing without end.
FRAMING, FRAMING_FREE = 8, 64 * KIB


class BoundedProtocol(Connection, HttpToolsProtocol):
    """An HTTP connection within the limits.

    A request is answered 431 for its headers, 408 for its slowness, and 503 where all
    connections together hold too much.
    """

    def __init__(self, limiter: ConnectionLimiter, **how: Any) -> None:
        super().__init__(**how)
        self.limiter = limiter
        self._fault = 400
        self._most_headers = limiter.limits.header_count
        self._most_header_bytes = limiter.limits.header_bytes
        self._body_bytes = 0
        self._running: RequestResponseCycle | None = None
        self.app_state = {**self.app_state, CONNECTION: weakref.ref(self)}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.limiter.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.closed(self)
        self._forsake()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        HttpToolsProtocol._start_asgi_task(self, cycle, app)

    def handle_websocket_upgrade(self) -> None:
        self.limiter.closed(self)  # the protocol that follows is another
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        size = len(data)
        self.received += size
        limiter = self.limiter
        limiter.took(self, size)
        if limiter.in_flight > limiter.limits.bytes_in_flight:
            self.limit_concurrency = 0  # uvicorn's own 503
            if self.transport.is_closing():
                return  # it was this one that went
        elif self.limit_concurrency is not None:
            self.limit_concurrency = None
        HttpToolsProtocol.data_received(self, data)
        if self.state is HEADERS:
            if self.received > self._most_header_bytes:
                self.refuse(431)
        elif self.state is BODY and self.received > FRAMING_FREE + FRAMING * self._body_bytes:
            self.refuse(400)

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        HttpToolsProtocol.on_message_begin(self)
        if self.pipeline and len(self.pipeline) >= self.limiter.limits.pipelined:
            raise TooLarge
        if self.state is KEPT:
            self.limiter.unkeep(self)
        self.state = HEADERS
        self.since = self.loop.time()
        self.fresh = False
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is not HEADERS:
            return  # a trailer: nobody asks for one
        headers = self.headers
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))
        if len(headers) > self._most_headers:
            self._fault = 431
            raise TooLarge

    def on_headers_complete(self) -> None:
        if (
            self.received > self._most_header_bytes
            and self._header_bytes() > self._most_header_bytes
        ):
            self._fault = 431
            raise TooLarge
        HttpToolsProtocol.on_headers_complete(self)
        self.state = BODY

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        HttpToolsProtocol.on_message_complete(self)
        self.received = 0
        if self.state is not KEPT:
            self.state = WORKING
        cycle: RequestResponseCycle | None = self.cycle  # none yet before a WebSocket
        if cycle is not None and cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        # As uvicorn has it, without a timer for each answer: `sweep` looks for who is idle.
        self.server_state.total_requests += 1
        if self.state is KEPT:
            self.limiter.unkeep(self)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.state is BODY:
            self.state = DRAIN
            self.since = self.loop.time()
        elif self.state is not HEADERS:
            self._rest()

    def _rest(self) -> None:
        self.state = IDLE
        self.since = self.loop.time()
        self.limiter.let_go(self)

    # -- a client that does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None

    # -- ending it

    def send_400_response(self, msg: str) -> None:
        del msg
        self.refuse(self._fault)

    def refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        if self._can_say(status):
            kind, body = self.refusal(status, _DETAIL[status])
            again = "retry-after: 5\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {kind}\r\n"
                f"content-length: {len(body)}\r\n{again}connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._forsake()
        if self.unread_since is None:
            self.transport.close()
        else:
            self.transport.abort()

    def cut(self) -> None:
        self._forsake()
        self.transport.abort()

    def _forsake(self) -> None:
        """Tell the application that nobody hears its answer; to write it now would be a fault.

        uvicorn tells the last of pipelined requests alone.
        """
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _can_say(self, status: int) -> bool:
        """Whether an answer written now is the answer to what is asked."""
        if self.pipeline or self.unread_since is not None or self.state is DRAIN:
            return False
        cycle: RequestResponseCycle | None = self.cycle
        owed = cycle is not None and not cycle.response_complete
        if self.state is IDLE:
            return status != HTTPStatus.REQUEST_TIMEOUT and not owed
        if self.state is HEADERS:
            return not owed
        return cycle is not None and owed and not cycle.response_started

    def refusal(self, status: int, detail: str) -> tuple[str, bytes]:
        """The content type and the body of a refusal."""
        del status
        return "text/plain; charset=utf-8", detail.encode()
