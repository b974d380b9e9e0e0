"""Time that is only reckoned: an event loop that jumps to whatever is due next.

Hours of pacing in a moment, and a proof: where nothing is due and nothing is ready, everybody
waits for somebody who waits, and `travel` says so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from pysqlite3.dbapi2 import Connection

from wabcast.clock import SECOND, Clock
from wabcast.store.database import immediate

T = TypeVar("T")
One = TypeVar("One")

PATIENCE = 60.0
"""Seconds that a thread may be at work before somebody should look."""

NOW = 1_800_000_000 * SECOND


class Stuck(AssertionError):
    """Nothing will ever happen again, and the test is not over."""


class _Jumps(selectors.DefaultSelector):
    """Sleeps by moving the time. It stands still while a thread is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        working = self.threads and timeout != 0
        found = super().select(PATIENCE if working else 0)
        if working and not found:
            raise Stuck("a thread does not come back")
        if timeout is None and not found:
            raise Stuck("nothing is due, and somebody still waits")
        # A turn of the loop takes time, or who waits for a hair's breadth spins for ever.
        self.now += 1e-6 if found else max(timeout or 0.0, 1e-6)
        return found


class Leaping(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumps = _Jumps()
        super().__init__(self.jumps)

    def time(self) -> float:
        return self.jumps.now

    def run_in_executor(  # type: ignore[override]  # of its executors, threads are what we have
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self.jumps.threads += 1
        answer = super().run_in_executor(executor, func, *args)
        answer.add_done_callback(self._came_back)
        return answer

    def _came_back(self, _answer: object) -> None:
        self.jumps.threads -= 1


def travel(journey: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, however long that is by its own clock."""
    with asyncio.Runner(loop_factory=Leaping) as runner:
        return runner.run(journey)


class TravelClock(Clock):
    """The clock of a `Leaping` loop. `overslept`: a sleep lasts up to so many seconds longer."""

    def __init__(self, seed: int = 1, overslept: float = 0.0) -> None:
        super().__init__(seed)
        self.set_back = 0
        self._overslept = overslept
        self._chance = Clock(seed + 1).random

    def steady(self) -> int:
        return round(asyncio.get_running_loop().time() * SECOND)

    def micros(self) -> int:
        return NOW + self.steady() - self.set_back

    async def sleep(self, seconds: float) -> None:
        late = self._chance.random() * self._overslept
        await asyncio.sleep(max(seconds, 0.001) + late)


class InlineRecorder:
    """The recorder's promise without its thread: what is written is on disk `takes` later."""

    def __init__(self, db: Connection, takes: float = 0.002) -> None:
        self.db = db
        self.takes = takes
        self.commit_seconds = min(takes, 0.05)
        self.broken: BaseException | None = None

    def write(self, write: Callable[[Connection], T], *, must: bool = False) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self.broken is not None and not must:
            future.set_exception(self.broken)
            return future
        with immediate(self.db):
            result = write(self.db)
        loop.call_later(self.takes, _resolve, future, result)
        return future

    def join(
        self,
        together: Callable[[Connection, list[One]], Sequence[T]],
        one: One,
        *,
        must: bool = False,
    ) -> asyncio.Future[T]:
        return self.write(lambda db: together(db, [one])[0], must=must)


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)
