"""What a client of the server may hold: WebSockets, Socket.IO's polls, streams, requests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from doors import mint
from pysqlite3.dbapi2 import Connection

from wabcast import receiver
from wabcast.clock import Clock
from wabcast.connection_limits import ConnectionLimiter, Limits, State
from wabcast.server import app as application
from wabcast.server import live, serving
from wabcast.server.app import build
from wabcast.store import tokens

pytestmark = pytest.mark.timeout(60)

UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: here\r\nupgrade: websocket\r\n"
    b"connection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FIN, TEXT, PING = 0x80, 0x1, 0x9
Opened = Callable[..., Any]


def frame(payload: bytes, kind: int = FIN | TEXT, size: int | None = None) -> bytes:
    """A client's frame, masked with zeros; `size` is what it says of itself."""
    size = len(payload) if size is None else size
    if size < 126:
        return bytes([kind, 0x80 | size]) + bytes(4) + payload
    if size < 1 << 16:
        return bytes([kind, 0x80 | 126]) + size.to_bytes(2, "big") + bytes(4) + payload
    return bytes([kind, 0x80 | 127]) + size.to_bytes(8, "big") + bytes(4) + payload


class Place:
    """A server in this process, its limiter, and a token of a viewer."""

    def __init__(self, url: str, limiter: ConnectionLimiter, token: str) -> None:
        self.url = url
        self.limiter = limiter
        self.token = token
        self.http = httpx.AsyncClient(
            base_url=url, trust_env=False, headers={"authorization": f"Bearer {token}"}, timeout=20
        )
        self.writers: list[asyncio.StreamWriter] = []

    async def connects(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def websocket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connects(UPGRADE)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")  # Engine.IO's first packet
        return reader, writer

    async def states(self, state: State, number: int) -> None:
        while sum(one.state is state for one in self.limiter._open) != number:  # noqa: ASYNC110  # the limiter tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
def opened(db: Connection, db_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    limiters: list[ConnectionLimiter] = []

    class Noted(ConnectionLimiter):
        def __init__(self, limits: Limits) -> None:
            super().__init__(limits)
            limiters.append(self)

    monkeypatch.setattr(receiver, "ConnectionLimiter", Noted)

    @asynccontextmanager
    async def serve(connections: int = 100) -> AsyncIterator[Place]:
        token = mint()
        tokens.create(db, "web", token, role="viewer", allow=(), now=Clock().now())
        listening = receiver.listen("127.0.0.1", 0)
        stop, up = asyncio.Event(), asyncio.Event()
        url = serving.url_of(listening)
        served = asyncio.create_task(
            serving.serve(
                build(db_path, Clock(), webhooks=False),
                listening,
                where=url,
                limits=Limits(connections=connections),
                ready=lambda _url: up.set(),
                stop=stop,
            )
        )
        await up.wait()
        place = Place(url, limiters[-1], token)
        try:
            yield place
        finally:
            await place.http.aclose()
            for writer in place.writers:
                writer.transport.abort()
            stop.set()
            await served

    return serve


async def ended(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass


@pytest.mark.parametrize(
    "piece",
    [
        frame(b"a" * 4096, size=1 << 40),
        frame(b"a" * 4096, TEXT) + frame(b"a" * 4096, 0) * 100,
        frame(b"3") * 20_000,
    ],
    ids=["one frame without end", "fragments", "many messages"],
)
async def test_what_a_websocket_may_send_is_small(opened: Opened, piece: bytes) -> None:
    async with opened() as place:
        reader, writer = await place.websocket()
        with suppress(ConnectionError):
            for _ in range(200):
                writer.write(piece)
                await writer.drain()
        await ended(reader)
        await place.states(State.STRANGER, 0)


async def test_pongs_do_not_pile_up_for_who_does_not_read(opened: Opened) -> None:
    async with opened() as place:
        _, writer = await place.websocket()
        line = next(one for one in place.limiter._open if one.state is State.STRANGER)
        writer.transport.pause_reading()
        most = 0
        for _ in range(200):
            writer.write(frame(b"p" * 125, FIN | PING) * 2000)
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(0.05):
                    await writer.drain()
            most = max(most, line.transport.get_write_buffer_size())
        assert line.unread_since is not None
        assert most < 1 << 20


async def test_a_websocket_of_nobody_gives_way(opened: Opened) -> None:
    async with opened(connections=10) as place:
        crowd = [await place.websocket() for _ in range(10)]
        for _ in range(3):
            assert (await place.http.get("/healthz")).status_code == 200
        await ended(crowd[0][0])
        now = asyncio.get_running_loop().time()
        place.limiter.sweep(now + 11)
        await place.states(State.STRANGER, 0)


async def test_a_websocket_of_somebody_stays(opened: Opened) -> None:
    async with opened() as place:
        reader, writer = await place.websocket()
        writer.write(frame(b'40{"token":"%b"}' % place.token.encode()))
        assert b"40{" in await reader.readuntil(b"}")
        await place.states(State.KEPT, 1)
        place.limiter.sweep(asyncio.get_running_loop().time() + 10_000)
        assert len(place.limiter) == 1


def test_nobody_announces_what_would_wait_in_memory() -> None:
    assert live.Packet(encoded_packet='2["x",{}]').data == ["x", {}]
    with pytest.raises(ValueError, match="attachments"):
        live.Packet(encoded_packet='51000000000-["x",{"_placeholder":true,"num":0}]')


async def test_sockets_of_strangers_are_few(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STRANGERS", 5)
    shake = "/socket.io/?EIO=4&transport=polling"
    async with opened() as place:
        sids = [(await place.http.get(shake)).text.split('"')[3] for _ in range(20)]
        asked = [await place.http.get(f"{shake}&sid={sid}") for sid in sids[:10]]
        assert {answer.status_code for answer in asked} == {400}
        # The last one is there yet, and becomes somebody.
        said = f'40{{"token":"{place.token}"}}'
        told = await place.http.post(f"{shake}&sid={sids[-1]}", content=said)
        assert told.status_code == 200
        assert "40{" in (await place.http.get(f"{shake}&sid={sids[-1]}")).text


async def test_the_poll_of_a_stranger_gives_way_and_that_of_somebody_does_not(
    opened: Opened,
) -> None:
    shake = "/socket.io/?EIO=4&transport=polling"
    async with opened() as place:
        strange, known = [(await place.http.get(shake)).text.split('"')[3] for _ in range(2)]
        said = f'40{{"token":"{place.token}"}}'
        await place.http.post(f"{shake}&sid={known}", content=said)
        await place.http.get(f"{shake}&sid={known}")
        polls = [
            (await place.connects(f"GET {shake}&sid={sid} HTTP/1.1\r\nhost: x\r\n\r\n".encode()))[0]
            for sid in (strange, known)
        ]
        await place.states(State.KEPT, 1)
        await place.states(State.STRANGER, 1)
        place.limiter.sweep(asyncio.get_running_loop().time() + 11)
        assert b" 408 " in await polls[0].readline()
        await place.states(State.STRANGER, 0)
        assert sum(one.state is State.KEPT for one in place.limiter._open) == 1


def files_of(path: Path) -> int:
    """How often this process has the database open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}") == str(path)
    return found


async def test_streams_and_requests_leave_files_to_the_store(opened: Opened, db_path: Path) -> None:
    stream = b"GET /api/v1/events/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n"
    async with opened(connections=200) as place:
        readers = [(await place.connects(stream % place.token.encode()))[0] for _ in range(40)]
        for reader in readers:
            assert b" 200 " in await reader.readline()
        await place.states(State.KEPT, 40)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(place.http.get("/api/v1/contacts")) for _ in range(80)]
        assert {task.result().status_code for task in asked} == {200}
        assert files_of(db_path) <= application.PLACES + application.THREADS
