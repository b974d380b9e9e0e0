"""The limits of connections: real sockets, and whoever drips, floods or does not read."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wabcast import receiver
from wabcast.connection_limits import (
    MIB,
    MOST_CONNECTIONS,
    ConnectionLimiter,
    Limits,
    State,
    connection_of,
    limits_for,
)

POST = b"POST /take HTTP/1.1\r\nhost: here\r\n"
GET = b"GET /health HTTP/1.1\r\nhost: here\r\n\r\n"


@dataclass(slots=True)
class Peer:
    """Somebody who connected."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def hears(self) -> bytes:
        """Up to the end of an answer's headers, or what there was before the end."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as exc:
            return exc.partial
        except ConnectionError:
            return b""

    async def status(self) -> int:
        """Of the next answer; 0 where the connection ended without one."""
        told = await self.hears()
        return int(told[9:12]) if told else 0

    async def floods(self, piece: bytes, most: int = 16 * MIB) -> int:
        """Say the same until the connection ends; the bytes that it took."""
        said = 0
        with suppress(ConnectionError):
            while said < most and not self.writer.transport.is_closing():
                self.writer.write(piece)
                await self.writer.drain()
                said += len(piece)
                await asyncio.sleep(0)
        return said

    async def rest(self) -> bytes:
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""


class Place:
    """A server in this process, and who connects to it. Time is handed to its sweep."""

    def __init__(self, server: receiver.Server, port: int, go: asyncio.Event) -> None:
        self.limiter: ConnectionLimiter = server.limiter
        self.go = go
        self._server = server
        self._port = port
        self.peers: list[Peer] = []

    async def peer(self, data: bytes = b"") -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self._port))
        self.peers.append(peer)
        if data:
            await peer.says(data)
        return peer

    async def states(self, state: State, number: int) -> None:
        """Wait until so many connections are in a state."""
        await self._until(lambda: sum(one.state is state for one in self.limiter._open) == number)

    async def taken(self, connections: int, *, in_flight: int = 0) -> None:
        """Wait until so many connections are open and so many bytes in flight."""
        await self._until(
            lambda: len(self.limiter) == connections and self.limiter.in_flight >= in_flight
        )

    async def unread(self) -> None:
        await self._until(lambda: any(one.unread_since for one in self.limiter._open))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110  # the limiter tells nobody
            await asyncio.sleep(0.001)

    def later(self, seconds: float) -> None:
        """Look at all connections as if so much time had gone by."""
        self.limiter.sweep(asyncio.get_running_loop().time() + seconds)

    async def ask(self, data: bytes = GET) -> int:
        return await (await self.peer(data)).status()


@asynccontextmanager
async def served(**limits: float) -> AsyncIterator[Place]:
    go = asyncio.Event()

    async def take(request: Request) -> Response:
        try:
            return PlainTextResponse(str(len(await request.body())))
        except ClientDisconnect:
            return Response(status_code=400)

    async def refuse(_request: Request) -> Response:
        return Response(status_code=404)

    async def slow(request: Request) -> Response:
        if "stay" in request.query_params:
            connection = connection_of(request.scope)
            assert connection is not None
            if not connection.limiter.keep(connection):
                return Response(status_code=503)
        await go.wait()
        return Response()

    async def large(_request: Request) -> Response:
        return Response(bytes(8 * MIB))

    async def health(_request: Request) -> Response:
        return Response()

    app = Starlette(
        routes=[
            Route("/take", take, methods=["POST"]),
            Route("/refuse", refuse, methods=["POST"]),
            *(Route(f"/{one.__name__}", one) for one in (slow, large, health)),
        ]
    )
    listening = receiver.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    up = asyncio.Event()
    server = receiver.Server(app, up.set, replace(Limits(), **limits))  # type: ignore[arg-type]
    server.config.timeout_graceful_shutdown = 1
    serving = asyncio.create_task(server.serve([listening]))
    await up.wait()
    place = Place(server, port, go)
    try:
        yield place
    finally:
        go.set()
        for peer in place.peers:
            peer.writer.transport.abort()
        server.should_exit = True
        await serving
        listening.close()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET / HTTP/1.1\r\nx: ", b"a" * 4096),
        (b"GET /", b"a" * 4096),
        (b"GET / HTTP/1.1\r\n", b"a:\r\n" * 1024),
    ],
    ids=["one", "the address", "many"],
)
async def test_headers_without_end_are_cut(start: bytes, piece: bytes) -> None:
    async with served() as place:
        peer = await place.peer(start)
        assert await peer.floods(piece) < 8 * MIB  # what the sockets between us hold
        assert await peer.status() in (0, 400, 431)
        assert await place.ask() == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nhost: here\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        POST + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 100000\r\n\r\n" + b"b" * 100_000,
    ],
    ids=["large", "many", "with its body"],
)
async def test_headers_that_come_at_once_are_measured_too(head: bytes) -> None:
    async with served() as place:
        assert await place.ask(head) == 431
        assert await place.ask(POST + b"content-length: 100000\r\n\r\n" + b"b" * 100_000) == 200


@pytest.mark.parametrize(
    ("said", "after", "status"),
    [
        (b"", 11, 0),
        (b"\r\n", 11, 0),
        (b"GET / HT", 11, 408),
        (POST + b"x: y\r\n", 11, 408),
        (POST + b"content-length: 10\r\n\r\n12345", 21, 408),
        (POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n", 21, 408),
        (POST + b"expect: 100-continue\r\ncontent-length: 10\r\n\r\n", 21, 100),
        (GET + b"\r\n", 61, 200),
        (GET + b"GET / HT", 11, 200),
    ],
)
async def test_nobody_is_waited_for_without_end(said: bytes, after: float, status: int) -> None:
    async with served() as place:
        peer = await place.peer(said)
        if status in (100, 200):
            assert await peer.status() == status
        await place.taken(1)
        await asyncio.sleep(0.01)  # what was said is read by now
        place.later(after - 2)
        assert not peer.reader.at_eof()
        assert len(place.limiter) == 1
        place.later(after)
        told = await peer.rest()
        await place.taken(0)
        if status == 408:
            assert told.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in told


async def test_dripping_wins_no_time_and_a_slow_upload_does() -> None:
    async with served() as place:
        head = POST + b"content-length: 3000000\r\n\r\n"
        drip, slow = await place.peer(head), await place.peer(head + b"a" * 1_000_000)
        await place.taken(2, in_flight=1_000_000)
        for _ in range(5):
            await drip.says(b"a")
        place.later(25)
        await place.taken(1)
        assert await drip.status() in (0, 408)  # a reset may overtake it
        await slow.says(b"a" * 2_000_000)
        assert await slow.status() == 200


@pytest.mark.parametrize(
    "more", [b"trailer: " + b"t" * 4000 + b"\r\n", b"1;" + b"e" * 4000 + b"\r\na\r\n"]
)
async def test_a_chunked_body_that_is_only_framing_ends(more: bytes) -> None:
    async with served() as place:
        start = b"transfer-encoding: chunked\r\n\r\n"
        start += b"1\r\na\r\n0\r\n" if more.startswith(b"t") else b""
        peer = await place.peer(POST + start)
        assert await peer.floods(more) < 8 * MIB
        assert await peer.status() in (0, 400)
        assert await place.ask() == 200


async def test_what_is_answered_already_need_not_come_in() -> None:
    async with served() as place:
        peer = await place.peer(POST.replace(b"take", b"refuse") + b"content-length: 100\r\n\r\na")
        assert await peer.status() == 404
        place.later(4)
        assert len(place.limiter) == 1
        place.later(6)
        await place.taken(0)


async def test_over_the_cap_who_kept_us_waiting_longest_goes() -> None:
    async with served(connections=10) as place:
        idle = [await place.peer(b"GET / HT") for _ in range(10)]
        await place.taken(10)
        for _ in range(20):
            assert await place.ask() == 200
        assert len(place.limiter) <= 10
        assert await idle[0].status() == 408


async def test_who_is_being_answered_is_never_the_one_to_go() -> None:
    async with served(connections=4) as place:
        busy = [await place.peer(GET.replace(b"health", b"slow")) for _ in range(4)]
        await place.states(State.WORKING, 4)
        assert await place.ask() == 503
        place.later(10_000)
        place.go.set()
        assert [await one.status() for one in busy] == [200] * 4
        assert await place.ask() == 200


async def test_streams_take_no_more_than_half_of_the_connections() -> None:
    async with served(connections=8) as place:
        stay = GET.replace(b"health", b"slow?stay")
        kept = [await place.peer(stay) for _ in range(4)]
        await place.states(State.KEPT, 4)
        assert await place.ask(stay) == 503
        for _ in range(10):
            assert await place.ask() == 200
        kept.pop().writer.close()
        await place.states(State.KEPT, 3)
        again = await place.peer(stay)
        place.go.set()
        assert await again.status() == 200
        assert [await one.status() for one in kept] == [200] * 3
        await kept[0].says(GET)
        assert await kept[0].status() == 200


async def test_bytes_in_flight_are_bounded_and_whole_requests_are_taken() -> None:
    async with served(bytes_in_flight=8 * MIB) as place:
        half = POST + b"content-length: 3000000\r\n\r\n" + b"a" * 2_000_000
        large = [await place.peer(half) for _ in range(12)]
        whole = POST + b"content-length: 1000000\r\n\r\n" + b"a" * 1_000_000
        for _ in range(5):
            assert await place.ask(whole) == 200
            assert place.limiter.in_flight <= 9 * MIB
        told = [await one.status() for one in large[:6]]
        assert set(told) <= {503, 0}  # a close may overtake what it says
        await large[-1].says(b"a" * 1_000_000)
        assert await large[-1].status() == 200  # the newest was left alone


async def test_where_nothing_can_go_what_comes_is_told_to_come_again() -> None:
    async with served(bytes_in_flight=130_000) as place:
        slow = b"GET /slow HTTP/1.1\r\ncontent-length: 60000\r\n\r\n" + b"a" * 60_000
        busy = [await place.peer(slow) for _ in range(2)]
        await place.states(State.WORKING, 2)
        assert await place.ask(slow) == 503
        assert await place.ask() == 200
        place.go.set()
        assert [await one.status() for one in busy] == [200] * 2
        assert place.limiter.in_flight == 0
        assert await place.ask(slow) == 200


async def test_a_connection_that_took_more_than_there_is_room_for_is_served_again() -> None:
    async with served(bytes_in_flight=130_000) as place:
        slow = b"GET /slow HTTP/1.1\r\ncontent-length: 60000\r\n\r\n" + b"a" * 60_000
        busy = [await place.peer(slow[:-1]) for _ in range(2)]
        await place.taken(2, in_flight=120_000)
        # The last byte of both comes while others fill what is left.
        filling = await place.peer(POST + b"content-length: 20000\r\n\r\n" + b"a" * 9_000)
        await place.taken(3, in_flight=129_000)
        for one in busy:
            await one.says(b"a")
        await place.states(State.WORKING, 2)
        await filling.says(b"a" * 11_000)
        place.go.set()
        assert [await one.status() for one in busy] == [200] * 2
        await filling.status()
        for one in busy:
            await one.says(GET)
            assert await one.status() == 200


async def test_who_does_not_read_is_cut_off() -> None:
    async with served() as place:
        await place.peer(GET.replace(b"health", b"large") * 8)
        await place.unread()
        place.later(29)
        assert len(place.limiter) == 1
        place.later(31)
        await place.taken(0)


async def test_pipelined_requests_are_answered_and_floods_are_not() -> None:
    async with served() as place:
        peer = await place.peer(GET * 10)
        assert [await peer.status() for _ in range(10)] == [200] * 10
        flood = await place.peer(GET * 5000)
        assert (await flood.rest()).count(b"200 OK") < 30
        await place.taken(1)


async def test_nothing_is_left_counted_when_all_have_gone() -> None:
    async with served() as place:
        for data in (GET, POST + b"content-length: 90\r\n\r\nabc", b"no HTTP\r\n\r\n", b"GET / HT"):
            await place.peer(data)
            stays = await place.peer(GET + GET)
            stays.writer.write_eof()
        await asyncio.sleep(0.05)
        for peer in place.peers:
            peer.writer.transport.abort()
        await place.taken(0)
        assert place.limiter.in_flight == 0


def test_the_cap_lies_below_the_limit_of_open_files() -> None:
    for files in (16, 64, 256, 1024, 65536):
        cap = limits_for(files).connections
        assert 0 < cap < files
        assert files < 256 or files - cap >= 128
    assert limits_for(1 << 20).connections == MOST_CONNECTIONS


def test_the_limit_of_open_files_is_raised_where_that_is_allowed() -> None:
    ask = "from wabcast.connection_limits import raise_file_limit; print(raise_file_limit())"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)

    def told(limit: str) -> int:
        return int(
            subprocess.check_output(["sh", "-c", f"{limit}; exec {sys.executable} -c '{ask}'"])
        )

    assert told("ulimit -S -n 200") == most
    assert told("ulimit -n 200") == 200


def test_files_are_left_however_many_connect() -> None:
    """Under a limit of 96 open files, connections without end leave some to be opened."""
    child = subprocess.run(
        [sys.executable, "-c", _CROWD], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.stdout.split()[-1:] == ["fine"], child.stdout + child.stderr


_CROWD = """
import asyncio, os, resource, socket, threading, time
import uvloop
from starlette.applications import Starlette
from wabcast import receiver
from wabcast.connection_limits import Limits
from dataclasses import replace

listening = receiver.listen("127.0.0.1", 0)
port = listening.getsockname()[1]
child = os.fork()
if not child:
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
    listening.close()
    time.sleep(0.5)
    crowd = [socket.socket() for _ in range(1000)]
    for one in crowd:
        one.connect(("127.0.0.1", port))
    time.sleep(1)
    os._exit(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
most = 0

async def main():
    global most
    server = receiver.Server(Starlette(), lambda: None, replace(Limits(), connections=40))
    serving = asyncio.create_task(server.serve([listening]))
    loop = asyncio.get_running_loop()
    failed = []
    gone = threading.Event()

    def look():
        while not gone.is_set():
            try:
                files = [open("/dev/null") for _ in range(20)]
                [file.close() for file in files]
            except OSError as exc:
                failed.append(exc)
    looking = threading.Thread(target=look)
    looking.start()
    await asyncio.to_thread(os.waitpid, child, 0)
    gone.set()
    looking.join()
    server.should_exit = True
    await serving
    print(failed[:1] or "fine")

uvloop.run(main())
"""
