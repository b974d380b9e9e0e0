"""A connection with a thread of its own, for those who live on an event loop.

SQLite's objects do not bear it that one thread closes what another one reads: that ends the
interpreter. So whoever must not wait for the disk asks this thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wabcast.store import database

if TYPE_CHECKING:
    from wabcast.store.database import Connection

T = TypeVar("T")


class ConnectionThread:
    """`await thread.ask(lambda db: ...)`: one question after another, each in the thread.

    Invariant: the thread opens, uses and closes the connection, and nobody else touches it. Who
    stops waiting for an answer does not free it: the next question comes after that answer.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, name)
        self._db: Connection | None = None

    async def ask(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns. The first question opens the file and raises what forbids it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, work)

    async def aclose(self) -> None:
        """Close, after what is being answered."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)

    def _answer(self, work: Callable[[Connection], T]) -> T:
        if self._db is None:
            self._db = database.connect(self._path)
        return work(self._db)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
