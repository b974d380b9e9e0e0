"""WhatsApp's side of the receiver, and the least that could take its posts.

Each runs in a process of its own:

    python -m benchmarks.webhooks bare                    # Starlette that says 200; prints its URL
    python -m benchmarks.webhooks post URL SECRET FIRST COUNT EACH CONNECTIONS RATE
    python -m benchmarks.webhooks apply DB                # apply what waits in the inbox

`post` tells of COUNT x EACH messages from the number FIRST on, RATE posts a second (0: as fast
as it is answered), and prints {"posts", "ok", "seconds", "slowest"}.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.measure import NUMBER
from wabcast import receiver
from wabcast.connection_limits import Limits

STATUSES = ("sent", "delivered", "read")


def receipts(first: int, count: int, status: str = "delivered") -> bytes:
    """Meta's body for the messages `first` and the next, as large as Meta writes it."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER},
        "statuses": [
            {
                "id": f"wamid.HBgNNDkxNTExMDAwMDAwMBUCABEYEjk4{nr:012}",
                "status": status,
                "timestamp": str(1_793_872_900 + nr // 1000),
                "recipient_id": f"49151{10_000_000 + nr}",
                "biz_opaque_callback_data": f"wabcast:bench:{nr}:1",
                "pricing": {
                    "billable": True,
                    "pricing_model": "PMP",
                    "type": "regular",
                    "category": "marketing",
                },
            }
            for nr in range(first, first + count)
        ],
    }
    change = {"field": "messages", "value": value}
    entry = {"id": "102290129340398", "changes": [change]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


class Poster(asyncio.Protocol):
    """One connection: a post, its answer, the next post."""

    def __init__(self, posts: Iterator[bytes], told: Told) -> None:
        self._posts = posts
        self._told = told
        self._owed: deque[float] = deque()
        self.idle = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def post(self) -> bool:
        """Send the next; False where there is none."""
        request = next(self._posts, None)
        self.idle = request is None
        if request is None:
            return False
        self._began = time.monotonic()
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 ") and b"\r\n\r\n" in data:
            self._told.answered(data[9:12], time.monotonic() - self._began)
            if self._told.paced:
                self._told.free.append(self)
            elif not self.post():
                self._told.rest()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._told.rest()


class Told:
    """What was answered. `free` are connections that wait for their turn."""

    def __init__(self, count: int, *, paced: bool) -> None:
        self.paced = paced
        self.free: deque[Poster] = deque()
        self.posts = self.ok = 0
        self.slowest = 0.0
        self.done = asyncio.Event()
        self._count = count

    def answered(self, status: bytes, seconds: float) -> None:
        self.posts += 1
        self.ok += status == b"200"
        self.slowest = max(self.slowest, seconds)
        if self.posts == self._count:
            self.done.set()

    def rest(self) -> None:
        if self.posts == self._count:
            self.done.set()


def requests(url: str, secret: str, first: int, count: int, each: int) -> list[bytes]:
    host, _, path = url.removeprefix("http://").partition("/")
    made = []
    for nr in range(first, first + count * each, each):
        body = receipts(nr, each)
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        head = (
            f"POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-hub-signature-256: sha256={signature}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def post(
    url: str, secret: str, first: int, count: int, each: int, width: int, rate: int
) -> None:
    made = requests(url, secret, first, count, each)
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    told = Told(count, paced=rate > 0)
    posts = iter(made)
    loop = asyncio.get_running_loop()
    lines = []
    for _ in range(width):
        _, line = await loop.create_connection(lambda: Poster(posts, told), host, int(port))
        lines.append(line)
    began = time.monotonic()
    if rate:
        told.free.extend(lines)
        sent = 0
        while sent < count:
            due = min(count, int((time.monotonic() - began) * rate) + 1)
            while sent < due and told.free:
                told.free.popleft().post()
                sent += 1
            await asyncio.sleep(0.001)
    else:
        for line in lines:
            line.post()
    await told.done.wait()
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {"posts": told.posts, "ok": told.ok, "seconds": seconds, "slowest": told.slowest}
        )
    )


async def bare() -> None:
    """A Starlette app that reads the body and says 200, as the receiver is served."""

    async def take(request: Request) -> Response:
        await request.body()
        return Response()

    listening = receiver.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = Starlette(routes=[Route("/webhooks/{account}", take, methods=["POST"])])
    await receiver.Server(app, lambda: print(url, flush=True), Limits()).serve([listening])


def apply(path: str) -> None:
    """Apply what waits; prints what that came to, and the seconds it took."""
    from datetime import timedelta

    from wabcast.applier import Applier
    from wabcast.clock import Clock
    from wabcast.providers.base import Settings
    from wabcast.providers.cloud import CloudProvider
    from wabcast.store import database

    settings = Settings("bench", {"phone_number_id": NUMBER})
    provider = CloudProvider(settings, {"token": "a-token-of-no-one"})
    db = database.connect(Path(path))
    applier = Applier(Clock(), lambda _: provider, trace=False, reply_window=timedelta(hours=72))
    began, cpu = time.monotonic(), time.process_time()
    applied = applier.all(db)
    told = {"seconds": time.monotonic() - began, "cpu": time.process_time() - cpu}
    print(json.dumps({**applied.to_json(), **told}))
    db.close()


def main(what: str, *args: str) -> None:
    match what:
        case "bare":
            with suppress(KeyboardInterrupt):
                uvloop.run(bare())
        case "post":
            url, secret, *numbers = args
            uvloop.run(post(url, secret, *map(int, numbers)))
        case _:
            apply(*args)


if __name__ == "__main__":
    main(*sys.argv[1:])
