"""A WhatsApp that costs next to nothing, so that what is measured is who calls it.

The strict sandbox reads and judges every message; this one looks for the number and counts. It
answers as the Cloud API does. What must not break: it counts every request it reads, so that
what a peer loses or sends twice shows here and not in the peer's own books.

    python -m benchmarks.played        # prints its base URL
    GET /_stats                        # {"messages", "people", "twice", "first", "last"}
    DELETE /_stats                     # begin again
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections import Counter
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TO = re.compile(rb'"to": ?"\+?(\d+)"')

_IDS = itertools.count(1)
"""No id is given twice, also after the books were begun again: a run takes that for a fault."""

NUMBER = json.dumps(
    {
        "id": "106540352242922",
        "display_phone_number": "+49 30 1234567",
        "verified_name": "Bench",
        "quality_rating": "GREEN",
        "status": "CONNECTED",
        "throughput": {"level": "HIGH"},
        "health_status": {"can_send_message": "AVAILABLE", "entities": []},
    }
).encode()
APPS = b'{"data":[{"whatsapp_business_api_data":{"id":"1","name":"bench"}}]}'


class World:
    """What was asked of us: how often each number was written to, and from when to when."""

    def __init__(self) -> None:
        self.told: Counter[bytes] = Counter()
        self.first = 0.0
        self.last = 0.0

    def send(self, body: bytes) -> bytes:
        found = _TO.search(body)
        if found is None:
            return b'{"error":{"message":"(#100) no number","code":100}}'
        self.last = time.monotonic()
        self.first = self.first or self.last
        number = found[1]
        self.told[number] += 1
        return (
            b'{"messaging_product":"whatsapp","contacts":[{"input":"%b","wa_id":"%b"}],'
            b'"messages":[{"id":"wamid.%b%08d"}]}' % (number, number, number, next(_IDS))
        )

    def stats(self) -> bytes:
        twice = sum(count - 1 for count in self.told.values() if count > 1)
        told = {
            "messages": self.told.total(),
            "people": len(self.told),
            "twice": twice,
            "first": self.first,
            "last": self.last,
        }
        return json.dumps(told).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 as clients write it: requests with a length, one after another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end]
            length = _LENGTH.search(head)
            after = end + 4 + (int(length[1]) if length else 0)
            if len(data) < after:
                break
            answer = self._answer(head, data[end + 4 : after])
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(answer), answer)
            )
            data = data[after:]
        self._rest = data

    def _answer(self, head: bytes, body: bytes) -> bytes:
        method, path, _ = head.split(b" ", 2)
        if path == b"/_stats":
            if method == b"DELETE":
                self._world.__init__()  # type: ignore[misc]  # begin again, for all connections
            return self._world.stats()
        if method == b"POST":
            return self._world.send(body)
        return APPS if b"subscribed_apps" in path else NUMBER


async def play(port: int) -> None:
    world = World()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(world), "127.0.0.1", port, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(play(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
