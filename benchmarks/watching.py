"""A run at 1000/s that 200 Socket.IO clients watch, against the same without; and a client that
does not read.

`python -m benchmarks.watching hear|stall URL TOKEN COUNT` is COUNT clients in a process of their
own. It prints a line when all are let in. At the end of its input it waits until each client has
heard that the campaign completed, for the server reads the log after the run has ended, and then
prints what each has heard.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.measure import PYTHON, ROOT, WABCAST, Home, Line, home, median, played, ratio
from benchmarks.pacing import carried
from benchmarks.receiving import serving

FULL, QUICK = (10_000, 3), (2_000, 1)

CLIENTS = 200
STALLED = 50
RATE = "1000/s"

LAST = "campaign:completed"
"""The event after which a run writes no other."""

PATIENCE = 30.0
"""Seconds that the clients wait for it."""

Heard = tuple[str, int]
"""An event as a client heard it: its name and its id in the log."""


async def _ended() -> None:
    """Until whoever started us closes our input."""
    await asyncio.to_thread(sys.stdin.read)


async def hear(url: str, token: str, count: int) -> None:
    import aiohttp
    import socketio

    heard: list[list[Heard]] = [[] for _ in range(count)]
    ended = [asyncio.Event() for _ in range(count)]

    async def one(nr: int, http: aiohttp.ClientSession) -> socketio.AsyncClient:
        def note(event: str, _data: object, offset: str) -> None:
            heard[nr].append((event, int(offset)))
            if event == LAST:
                ended[nr].set()

        client = socketio.AsyncClient(http_session=http)
        client.on("*", note)
        await client.connect(url, auth={"token": token}, transports=["websocket"])
        return client

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        clients = [await one(nr, http) for nr in range(count)]
        print("in", flush=True)
        await _ended()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for each in ended:
                    await each.wait()
        print(json.dumps([in_order(each) for each in heard]), flush=True)
        for client in clients:
            await client.disconnect()


def in_order(heard: Sequence[Heard]) -> int:
    """How many `campaign:progress` a client heard, none of them twice or after a later event."""
    last = count = 0
    for event, offset in heard:
        if offset > last and event == "campaign:progress":
            count += 1
        last = max(last, offset)
    return count


async def stall(url: str, token: str, count: int) -> None:
    """Let in, and then nothing is read of what comes."""
    host, _, port = url.removeprefix("http://").partition(":")
    ask = (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: bench\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    said = b'40{"token":"%b"}' % token.encode()
    lines = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(ask)
        await reader.readuntil(b"\r\n\r\n")
        # One masked frame of text; a mask of noughts leaves it as it is.
        writer.write(bytes([0x81, 0x80 | 126, *len(said).to_bytes(2), 0, 0, 0, 0]) + said)
        lines.append(writer)
    print("in", flush=True)
    await _ended()
    print("[]", flush=True)


@contextmanager
def watched(how: str, url: str, token: str, count: int, told: list[Any]) -> Iterator[None]:
    """Clients beside; what they have heard is in `told` afterwards."""
    child = subprocess.Popen(
        [PYTHON, "-m", "benchmarks.watching", how, url, token, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    if child.stdout.readline() != "in\n":
        raise RuntimeError("the clients were not let in")
    yield
    out, _ = child.communicate()
    told.append(json.loads(out))


def memory_of(pid: int) -> float:
    """MB that a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def sent_at(place: Home, name: str) -> float:
    """Messages a second of a campaign at 1000/s, from the first that left to the last."""
    place.campaign(name, rate=RATE, concurrency=100)
    rate: float = carried(place, str(place.db), name)["accounts"][0]["rate"]
    return rate


def measure(count: int, turns: int) -> list[Line]:
    rates: dict[str, list[float]] = {"alone": [], "watched": []}
    heard: list[list[int]] = []
    with home() as place, played() as world:
        place.account(world.url)
        place.wabcast("contact", "import", str(place.people(count)), "--quiet")
        token = json.loads(
            place.wabcast("token", "create", "bench", "--role", "viewer", "--json").out
        )["token"]
        env = os.environ | {"BENCH_TOKEN": "a-token-of-no-one"}
        server = [WABCAST, "--db", str(place.db), "serve", "--port", "0", "--no-runner", "--quiet"]
        with serving(server, env) as (url, pid):
            for turn in range(turns):
                rates["alone"].append(sent_at(place, f"alone-{turn}"))
                with watched("hear", url, token, CLIENTS, heard):
                    rates["watched"].append(sent_at(place, f"watched-{turn}"))
            before = memory_of(pid)
            with watched("stall", url, token, STALLED, []):
                entered = memory_of(pid)
                sent_at(place, "stalled")
                after = memory_of(pid)
    least, told = min(map(min, heard)), count // 100
    return [
        Line(
            "watched/alone",
            f"1000/s with {CLIENTS} Socket.IO clients, against without",
            f"{median(rates['watched']):,.0f}/s",
            ratio(rates["watched"], rates["alone"]),
            0.95,
        ),
        Line(
            "heard/told",
            "  campaign:progress that the client heard who heard the fewest",
            f"{least:,} of {told:,}",
            least / told,
            1.0,
        ),
        Line(
            "",
            f"memory of the server for {STALLED} clients that do not read",
            f"{entered - before:+.1f} MB at first, {after - entered:+.1f} MB after {count:,} sent",
        ),
    ]


PARTS = {"hear": hear, "stall": stall}

if __name__ == "__main__":
    how, url, token, count = sys.argv[1:]
    asyncio.run(PARTS[how](url, token, int(count)))
