"""Bare loops: the least that could send as many messages, without anything that makes it safe.

Each in a process of its own: `python -m benchmarks.loops NAME URL COUNT SLOTS`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from benchmarks.measure import NUMBER
from wabcast.providers.http import Http

Post = Callable[[int], Awaitable[None]]
PATH = f"v25.0/{NUMBER}/messages"
TOKEN = {"authorization": "Bearer a-token-of-no-one", "accept": "application/json"}


def body(nr: int) -> bytes:
    """What the engine would post, encoded anew each time, as it must be."""
    text = f"Hello Ann{nr} Smith, your order {nr} is on its way to Berlin."
    message = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+49151{10_000_000 + nr}",
        "type": "text",
        "text": {"body": text},
        "biz_opaque_callback_data": f"wabcast:bench:{nr}:1",
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


async def slots(post: Post, count: int, width: int) -> None:
    """`width` tasks share the numbers from 0 to `count`."""
    numbers: Iterator[int] = iter(range(count))

    async def one() -> None:
        for nr in numbers:
            await post(nr)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(one())


async def seam(url: str, count: int, width: int) -> None:
    """httpx's transport seam over aiohttp, called as httpx's client would call it."""
    import aiohttp
    import httpx
    from httpx_aiohttp import AiohttpTransport

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=width))

    transport = AiohttpTransport(client=session)
    where = httpx.URL(f"{url}/{PATH}")
    headers = httpx.Headers({**TOKEN, "content-type": "application/json"})

    async def post(nr: int) -> None:
        request = httpx.Request("POST", where, headers=headers, content=body(nr))
        answer = await transport.handle_async_request(request)
        assert json.loads(await answer.aread())["messages"]
        await answer.aclose()

    await slots(post, count, width)
    await transport.aclose()


async def short(url: str, count: int, width: int) -> None:
    """The way that the providers take with a message, and nothing else."""
    http = Http(url, TOKEN, concurrency=width)

    async def post(nr: int) -> None:
        answer = await http.post(PATH, body(nr), "application/json")
        assert answer.json()["messages"]

    await slots(post, count, width)
    await http.aclose()


async def bare_aiohttp(url: str, count: int, width: int) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=width)
    async with aiohttp.ClientSession(connector=connector, headers=TOKEN) as session:

        async def post(nr: int) -> None:
            headers = {"content-type": "application/json"}
            async with session.post(f"{url}/{PATH}", data=body(nr), headers=headers) as answer:
                assert json.loads(await answer.read())["messages"]

        await slots(post, count, width)


async def commit(url: str, count: int, width: int) -> None:
    """The short way, and one commit a message, as soon as its answer is there."""
    from pysqlite3 import dbapi2

    http = Http(url, TOKEN, concurrency=width)
    with tempfile.TemporaryDirectory(prefix="wabcast-bench-") as folder:
        db = dbapi2.connect(f"{folder}/sent.db", isolation_level=None)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute("create table sent (id integer primary key, wamid text)")

        async def post(nr: int) -> None:
            answer = await http.post(PATH, body(nr), "application/json")
            wamid = answer.json()["messages"][0]["id"]
            db.execute("insert into sent values (?, ?)", (nr, wamid))

        await slots(post, count, width)
        db.close()
    await http.aclose()


LOOPS = {"seam": seam, "short": short, "aiohttp": bare_aiohttp, "commit": commit}

if __name__ == "__main__":
    name, url, count, width = sys.argv[1:]
    uvloop.run(LOOPS[name](url, int(count), int(width)))
