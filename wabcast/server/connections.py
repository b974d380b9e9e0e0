"""Connections to the file, kept open between requests; a thread has one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.store import database

if TYPE_CHECKING:
    from wabcast.store.database import Connection

BUSY_SECONDS = 5.0
"""A request waits no longer for the write lock; then it is answered 503."""

KEPT = 16


class Connections:
    """`with connections.one() as db:` in whatever thread. What was left open is rolled back.

    Invariant: a connection is one thread's at a time. Where whoever waited for a thread was
    cancelled, the thread may still be at work: its connection comes back to nobody, and is
    closed when the thread drops it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._free: deque[Connection] = deque()
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Connection]:
        try:
            db = self._free.pop()
        except IndexError:
            db = database.connect(self._path, busy_seconds=BUSY_SECONDS, any_thread=True)
        try:
            yield db
        except Exception:
            self._take_back(db)
            raise
        else:  # not after a cancellation, which is no Exception
            self._take_back(db)

    def _take_back(self, db: Connection) -> None:
        if db.in_transaction:
            db.execute("rollback")
        if self._closed or len(self._free) >= KEPT:
            db.close()
        else:
            self._free.append(db)

    def close(self) -> None:
        self._closed = True
        while self._free:
            self._free.pop().close()
