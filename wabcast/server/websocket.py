"""WebSockets within the limits: small messages, few of them at once, nobody who does not read.

Invariant: a socket is one of a stranger, and may be closed for others, until `keep` says that it
is somebody's.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from wabcast.connection_limits import CONNECTION, Connection, ConnectionLimiter, State

if TYPE_CHECKING:
    import asyncio

    from wsproto.events import BytesMessage, Ping, TextMessage

    from wabcast.receiver import Server

LONGEST = 10_000
"""Bytes that a client may send in one message: a token, no more."""

AT_ONCE = 64
"""Messages of one client that wait to be read; more is a flood."""


class BoundedWebSocket(Connection, WSProtocol):
    """A WebSocket connection within the limits."""

    def __init__(self, limiter: ConnectionLimiter, **how: Any) -> None:
        super().__init__(**how)
        self.limiter = limiter
        self.state = State.STRANGER
        self.app_state = {**self.app_state, CONNECTION: weakref.ref(self)}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.limiter.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.closed(self)
        super().connection_lost(exc)

    def handle_message(self, event: TextMessage | BytesMessage) -> None:
        if self.queue.qsize() < AT_ONCE:
            super().handle_message(event)
        else:
            self.transport.abort()

    def handle_ping(self, event: Ping) -> None:
        if self.unread_since is None:  # else its pongs would pile up here
            super().handle_ping(event)

    async def send(self, message: Any) -> None:
        if self.transport.is_closing():
            raise ClientDisconnected
        await super().send(message)

    def send_500_response(self) -> None:
        if not self.transport.is_closing():
            super().send_500_response()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unread_since = None


def bound_websockets(server: Server) -> None:
    """Have `server` take WebSockets, within its limits."""
    config = server.config
    config.ws = partial(BoundedWebSocket, server.limiter)  # type: ignore[assignment]  # makes one
    config.ws_max_size = LONGEST
    config.ws_per_message_deflate = False  # a kilobyte may unfold to a megabyte
