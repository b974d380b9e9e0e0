"""Webhooks on their way in: kept, answered, then applied. Where store and provider meet.

What must not break: a body is on disk before anybody is told 200, and is marked as applied in
the transaction of what it did. A crash between the two loses nothing; the same body twice does
nothing the second time.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.applier import Applier, Reader, Readers
from wabcast.clock import Clock, text
from wabcast.failpoints import failpoint
from wabcast.store import database, inbox, parked
from wabcast.store.receipts import REPLY_WINDOW, Applied

if TYPE_CHECKING:
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection

OK, FORGED, BUSY = 200, 401, 503

GROUP = 500
"""At most so many bodies share a commit."""

GATHERED = 0.25
"""Seconds for which bodies are only kept while more of them come, before any is applied."""

KEPT = timedelta(days=30)
"""How long a body is kept after it was applied."""

PATIENCE = 10.0
"""Seconds that a locked file is waited for before WhatsApp is asked to come again."""

PAUSE, RETRY, FOREVER = 0.002, 0.5, 3600.0
"""Seconds: between two batches, after a refusal of the file, and where nothing is to be done."""

log = logging.getLogger("wabcast.webhooks")


def redacted(reader: Reader, body: bytes) -> bytes:
    """A body without the secrets that some gateways put into it."""
    redact: Callable[[bytes], bytes] | None = getattr(reader, "redact", None)
    return body if redact is None else redact(body)


def prune(db: Connection, clock: Clock) -> int:
    """Forget bodies applied and receipts parked more than 30 days ago; how many bodies."""
    now = clock.now()
    count = 0
    while True:  # a thousand a transaction: the senders want the file too
        with database.immediate(db):
            gone = inbox.prune(db, before=text(now - KEPT))
        count += gone
        if not gone:
            break
    with database.immediate(db):
        parked.prune(db, before=text(now - parked.KEPT))
    return count


@dataclass(slots=True)
class _Post:
    account: int
    body: bytes | None
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[int]
    whole: bool
    """Answered when it is applied, not already when it is kept."""


class Webhooks:
    """Keeps and applies what WhatsApp posts, in a thread of its own with its own connection.

    `readers` finds the reader of an account; those seen by `receive` are known anyway. Message
    events are written only with `trace`. The thread starts with the first body, or `start`.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        readers: Readers | None = None,
        trace: bool = False,
        reply_window: timedelta = REPLY_WINDOW,
    ) -> None:
        self._path = path
        self._readers = readers
        self._clock = clock
        self._known: dict[int, Reader] = {}
        self._applier = Applier(clock, self._reader, trace=trace, reply_window=reply_window)
        self._posts: queue.SimpleQueue[_Post | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with what an earlier process left to be applied."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wabcast-webhooks", daemon=True)
            self._thread.start()

    async def receive(
        self,
        account: Account,
        provider: Reader,
        headers: Mapping[str, str],
        body: bytes,
        *,
        unsigned: bool = False,
    ) -> int:
        """An HTTP status: 200 once it is kept, 401 where it is not genuine (and not kept), 503
        where the file is locked or its disk is full. `unsigned` takes it without a signature.
        """
        if not unsigned and not provider.verify(headers, body):
            return FORGED
        return await self._post(account, provider, body, whole=False)

    async def receive_now(
        self, account: Account, provider: Reader, headers: Mapping[str, str], body: bytes
    ) -> int:
        """The same, but what was kept is also applied when it returns."""
        if not provider.verify(headers, body):
            return FORGED
        return await self._post(account, provider, body, whole=True)

    async def settled(self) -> int:
        """Return when all that was received before is applied, what was parked tried again: 200,
        or 503 where the file refuses. Call it when a run has recorded its last outcome."""
        return await self._ask(0, None, whole=True)

    async def aclose(self) -> None:
        """Keep what was received, then end the thread. What waits is applied another time."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._posts.put(None)
            await asyncio.to_thread(thread.join)

    def apply_waiting(self) -> Applied:
        """Apply all that waits, here and now, on a connection of its own."""
        db = database.connect(self._path)
        try:
            applied = self._applier.all(db)
            return applied + self._applier.early(db, self._known)
        finally:
            db.close()

    def _reader(self, account: int) -> Reader | None:
        if account not in self._known and self._readers is not None:
            found = self._readers(account)
            if found is not None:
                self._known[account] = found
        return self._known.get(account)

    async def _post(self, account: Account, provider: Reader, body: bytes, *, whole: bool) -> int:
        self._known.setdefault(account.id, provider)
        return await self._ask(account.id, redacted(provider, body), whole=whole)

    async def _ask(self, account: int, body: bytes | None, *, whole: bool) -> int:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self.start()
        self._posts.put(_Post(account, body, loop, future, whole))
        return await future

    def _run(self) -> None:
        db: Connection | None = None
        owed: list[_Post] = []
        wait, after, last = 0.0, 0, False
        gathering = 0.0
        while not last:
            posts, last = self._gather(wait)
            try:
                if db is None:
                    db = database.connect(self._path, busy_seconds=PATIENCE)
                self._keep(db, posts)
            except Exception:
                # Whatever it is, it was not kept: let it come again.
                log.exception("webhooks could not be kept")
                _answer(posts, BUSY)
                wait = RETRY if db is None or owed or after or gathering else FOREVER
                continue
            _answer([post for post in posts if not post.whole], OK)
            owed += [post for post in posts if post.whole]
            if last:
                break
            gathering = gathering or (time.monotonic() if posts else 0.0)
            if not (owed or self._posts.empty()) and time.monotonic() - gathering < GATHERED:
                wait = FOREVER
                continue
            gathering = 0.0
            try:
                _, after = self._applier.some(db, after)
                if not after and any(post.body is None for post in owed):
                    self._applier.early(db, self._known)
                # While more waits, leave the file to the senders for a moment.
                wait = PAUSE if after else FOREVER
            except Exception:
                log.exception("webhooks could not be applied; trying again")
                _answer(owed, BUSY)
                owed, after, wait = [], 0, RETRY
            if not after:
                _answer(owed, OK)
                owed = []
        _answer(owed, BUSY)
        if db is not None:
            db.close()

    def _gather(self, wait: float) -> tuple[list[_Post], bool]:
        """What came by now; with nothing to do, wait for something to come."""
        posts: list[_Post] = []
        try:
            post = self._posts.get(timeout=wait) if wait else self._posts.get_nowait()
            while post is not None:
                posts.append(post)
                if len(posts) == GROUP:
                    return posts, False
                post = self._posts.get_nowait()
        except queue.Empty:
            return posts, False
        return posts, True

    def _keep(self, db: Connection, posts: Sequence[_Post]) -> None:
        bodies = [(post.account, post.body) for post in posts if post.body is not None]
        if not bodies:
            return
        at = text(self._clock.micros())
        with database.immediate(db):
            inbox.keep_all(db, bodies, at=at)
        failpoint("after-inbox")


def _answer(posts: Sequence[_Post], status: int) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[int]]] = {}
    for post in posts:
        by_loop.setdefault(post.loop, []).append(post.answer)
    for loop, futures in by_loop.items():
        with suppress(RuntimeError):  # it is gone, and so is whoever asked
            loop.call_soon_threadsafe(_resolve, futures, status)


def _resolve(futures: Sequence[asyncio.Future[int]], status: int) -> None:
    for future in futures:
        if not future.done():
            future.set_result(status)
