"""Campaigns carried in this process, watched: when each message left, and on whose time.

    python -m benchmarks.carrying DB NAME...              # through their providers
    python -m benchmarks.carrying --instant DB NAME...    # a provider that answers at once

Prints one JSON object. Nothing is left out of the way of a message: only `Gate.leave` is noted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import uvloop

from wabcast import runs, wiring
from wabcast.cli.failures import from_machine
from wabcast.clock import SECOND, Clock
from wabcast.delivery import Accepted, Verdict
from wabcast.gate import Gate
from wabcast.message import Message
from wabcast.providers.base import Health
from wabcast.store import campaigns, database


class Instant:
    """A provider that takes everything and asks nobody."""

    default_rate = None

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()

    async def send(self, message: Message) -> Verdict:
        del message
        return Accepted(f"wamid.{next(self._numbers):032}")

    async def check(self) -> Health:
        return Health(ok=True, status="CONNECTED")

    async def aclose(self) -> None: ...


def spent() -> tuple[float, float, float]:
    """By the clock, by this thread, by all of the process."""
    return time.monotonic(), time.thread_time(), time.process_time()


def busiest(moments: list[int]) -> int:
    """The most of them in any sliding second."""
    first = most = 0
    for index, moment in enumerate(moments):
        while moments[first] <= moment - SECOND:
            first += 1
        most = max(most, index - first + 1)
    return most


async def carry(path: Path, names: list[str]) -> dict[str, Any]:
    left: dict[int, list[int]] = defaultdict(list)
    leave = Gate.leave
    began: list[tuple[float, float, float]] = []
    db = database.connect(path)
    async with runs.Session(path, Clock()) as session:
        written: list[asyncio.Future[float]] = []

        async def noted(self: Gate, *args: Any) -> int:
            if not began:
                began.append(spent())
                written.append(session.recorder.write(lambda _db: time.thread_time()))
            moment = await leave(self, *args)
            left[self.account.account].append(moment)
            return moment

        Gate.leave = noted  # type: ignore[assignment,method-assign]
        chosen = [(campaigns.get(db, name), "start") for name in names]
        await runs.carry_all(
            session, chosen, parallel=len(names), explain=from_machine, failed=_raise
        )
        ended = spent()
        recorder = await session.recorder.write(lambda _db: time.thread_time()) - await written[0]
    db.close()
    messages = sum(map(len, left.values()))
    wall, loop, process = (end - start for start, end in zip(began[0], ended, strict=True))
    return {
        "messages": messages,
        "loop": loop / messages * 1e6,
        "recorder": recorder / messages * 1e6,
        "core": process / wall,
        "accounts": [
            {
                "busiest": busiest(sorted(moments)),
                "rate": (len(moments) - 1) * SECOND / (max(moments) - min(moments)),
            }
            for moments in left.values()
        ],
    }


def _raise(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    args = sys.argv[1:]
    if args[0] == "--instant":
        wiring.provider_for = lambda *_, **__: Instant()  # type: ignore[assignment]
        args = args[1:]
    print(json.dumps(uvloop.run(carry(Path(args[0]), args[1:]))))
