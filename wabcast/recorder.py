"""The one writer of a run: intents, outcomes and slots, grouped into commits by one thread.

While one commit is on its way to the disk the next marks gather; then they share the next one.
Nothing is told before it is on disk: a future is resolved only after the commit of its group.
Not on the event loop, where a slow fsync would hold up every message.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wabcast.errors import StoreError
from wabcast.store import database

if TYPE_CHECKING:
    from wabcast.store.database import Connection

T = TypeVar("T")
One = TypeVar("One")

GROUP = 200
"""At most so many marks share a commit."""

PATIENCE = 90.0
"""How long a locked database is waited for, seconds."""

OUTCOME_DELAY = 0.010
"""How long an outcome waits for company, seconds. The next intent takes it along at once: at a
kill no more is in doubt than was on the wire in so short a time before."""

OUTCOME_PATIENCE = 10.0
"""How long an outcome waits for a full disk to have room; then the message is in doubt."""


@dataclass(slots=True)
class _Mark:
    together: Callable[[Connection, list[Any]], Sequence[Any]]
    one: Any
    future: asyncio.Future[Any]
    must: bool
    """An outcome: worth waiting for. An intent is not: without it nothing leaves."""
    result: Any = None
    error: BaseException | None = None


class Recorder:
    """Runs writes in groups: `await recorder.write(lambda db: ...)` returns after the commit.

    Raises StoreError where the file cannot be written; an exception of the write itself undoes
    the whole group and is given to everyone in it, as it can only be a bug.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: queue.SimpleQueue[list[_Mark] | None] = queue.SimpleQueue()
        self._told: list[_Mark] = []
        self._gathered: deque[_Mark] = deque()
        self._soon = self._later = False
        self._ended = False
        self._thread: threading.Thread | None = None
        self.commit_seconds = 0.005
        """How long a commit takes of late, seconds."""
        self.blocked_since: float | None = None
        """Monotonic time since when another process has kept the file locked."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="wabcast-recorder", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write what is left, then end the thread."""
        if self._thread is None:
            return
        self._hand_over()
        self._marks.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def write(self, write: Callable[[Connection], T], *, must: bool = False) -> asyncio.Future[T]:
        """Queue `write`; what it returns, once it is on disk."""
        return self.join(_one_by_one, write, must=must)

    def join(
        self,
        together: Callable[[Connection, list[One]], Sequence[T]],
        one: One,
        *,
        must: bool = False,
    ) -> asyncio.Future[T]:
        """Queue `one` for `together`, which is called once with all that share a commit and
        returns as many results, in their order; the one for `one`, once it is on disk."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._told.append(_Mark(together, one, future, must))
        if must and not self._soon and not self._later:
            self._later = True
            self._loop.call_later(OUTCOME_DELAY, self._wait_is_over)
        elif not must and not self._soon:
            self._soon = True
            self._loop.call_soon(self._hand_over)
        return future

    def _wait_is_over(self) -> None:
        self._later = False
        self._hand_over()

    def _hand_over(self) -> None:
        """What one turn of the loop brought, at once: waking the thread for each mark cost the
        loop more than making it."""
        self._soon = False
        if self._told:
            self._marks.put(self._told)
            self._told = []

    def _run(self) -> None:
        db: Connection | None = None
        last = False
        while not last:
            group, last = self._gather()
            if not group:
                break
            try:
                if db is None:
                    db = database.connect(self._path, busy_seconds=1.0)
                self._commit(db, group)
            except Exception as exc:  # noqa: BLE001  # the waiters raise it where it is known
                for mark in group:
                    mark.error = exc
            self._loop.call_soon_threadsafe(_resolve, group)
        if db is not None:
            db.close()

    def _gather(self) -> tuple[list[_Mark], bool]:
        gathered = self._gathered
        while len(gathered) < GROUP and not self._ended:
            try:
                marks = self._marks.get(block=not gathered)
            except queue.Empty:
                break
            if marks is None:
                self._ended = True
            else:
                gathered.extend(marks)
        group = [gathered.popleft() for _ in range(min(GROUP, len(gathered)))]
        return group, self._ended and not gathered

    def _commit(self, db: Connection, group: list[_Mark]) -> None:
        """Write the group. Where the file refuses: intents fail at once, outcomes later."""
        began = time.monotonic()
        while True:
            try:
                self._attempt(db, group)
            except database.DatabaseError as exc:
                if database.is_busy(exc) and time.monotonic() - began < PATIENCE:
                    self.blocked_since = self.blocked_since or began
                    time.sleep(0.05)
                    continue
                refused = _refusal(exc)
                if refused is None:
                    raise
                worth = self._give_up_on(group, refused, began)
                self._loop.call_soon_threadsafe(_resolve, [mark for mark in group if mark.error])
                if not (group := worth):
                    return
                time.sleep(0.5)
            else:
                self.blocked_since = None
                spent = time.monotonic() - began
                self.commit_seconds += 0.1 * (min(spent, 0.05) - self.commit_seconds)
                return

    @staticmethod
    def _attempt(db: Connection, group: list[_Mark]) -> None:
        joined: dict[Any, list[_Mark]] = {}
        # Outcomes first: an opt-out that one of them brings holds for the intents beside it.
        for mark in sorted(group, key=lambda mark: not mark.must):
            joined.setdefault((mark.together, mark.must), []).append(mark)
        with database.immediate(db):
            for (together, _), marks in joined.items():
                results = together(db, [mark.one for mark in marks])
                for mark, result in zip(marks, results, strict=True):
                    mark.result = result

    @staticmethod
    def _give_up_on(group: list[_Mark], refused: StoreError, began: float) -> list[_Mark]:
        """Those that are worth another try."""
        tired = time.monotonic() - began > OUTCOME_PATIENCE
        for mark in group:
            if tired or not mark.must:
                mark.error = refused
        return [mark for mark in group if mark.error is None]


def _one_by_one(db: Connection, writes: list[Callable[[Connection], Any]]) -> list[Any]:
    return [write(db) for write in writes]


def _refusal(exc: database.DatabaseError) -> StoreError | None:
    """What the file or its disk says no with; None where the statement was wrong."""
    told = str(exc).lower()
    signs = ("full", "readonly", "read-only", "disk i/o", "locked", "unable to open")
    if not any(sign in told for sign in signs):
        return None
    return StoreError(
        f"the database cannot be written: {exc}",
        hint=database.advice(exc),
    )


def _resolve(group: list[_Mark]) -> None:
    for mark in group:
        if mark.future.done():
            continue
        if mark.error is not None:
            mark.future.set_exception(mark.error)
        else:
            mark.future.set_result(mark.result)
