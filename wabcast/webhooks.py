"""Webhooks on their way in: kept, answered, then applied. Where store and provider meet.

What must not break: a body is on disk before anybody is told 200, and is marked as applied in
the transaction of what it did. A crash between the two loses nothing; the same body twice does
nothing the second time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wabcast.clock import Clock, text
from wabcast.failpoints import failpoint
from wabcast.receipts import AccountNews, News, TemplateNews
from wabcast.store import database, inbox, parked, receipts
from wabcast.store.receipts import REPLY_WINDOW, Applied

if TYPE_CHECKING:
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection, Row

OK, FORGED, BUSY = 200, 401, 503

GROUP = 200
"""At most so many bodies share a commit."""

HELD = 500
"""At most about so many pieces of news share one: the senders want the file too."""

ROWS = 200
"""Bodies read at once."""

KEPT = timedelta(days=30)
"""How long a body is kept after it was applied."""

PATIENCE = 10.0
"""Seconds that a locked file is waited for before WhatsApp is asked to come again."""

PAUSE, RETRY, FOREVER = 0.002, 0.5, 3600.0
"""Seconds: between two batches, after a refusal of the file, and where nothing is to be done."""

log = logging.getLogger("wabcast.webhooks")


class Reader(Protocol):
    """What is needed of a provider. One with `redact(body) -> bytes` has its secrets out of a
    body before that is kept."""

    def parse(self, payload: Mapping[str, Any]) -> list[News]: ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool: ...


Readers = Callable[[int], Reader | None]
"""The reader of an account's bodies, by the account's id; None: they have to wait."""


class Applier:
    """Applies the bodies that wait in the inbox: parsed outside, written in one transaction."""

    def __init__(
        self, clock: Clock, readers: Readers, *, trace: bool, reply_window: timedelta
    ) -> None:
        self._clock = clock
        self._readers = readers
        self._trace = trace
        self._window = reply_window

    def all(self, db: Connection) -> Applied:
        """Apply until nothing waits that can be read."""
        total, after = Applied(), 0
        while True:
            applied, after = self.some(db, after)
            if not after:
                return total
            total += applied

    def early(self, db: Connection, accounts: Iterable[int]) -> Applied:
        """Try again what came before its message's id was known."""
        applied = Applied()
        for account in accounts:
            if parked.any_for(db, account):
                at = text(self._clock.micros())
                with database.immediate(db):
                    applied += receipts.apply_parked(
                        db, account, at=at, trace=self._trace, reply_window=self._window
                    )
        return applied

    def some(self, db: Connection, after: int = 0) -> tuple[Applied, int]:
        """Apply a batch of the bodies after the id `after`; the last one's id, 0: none waited."""
        rows = inbox.waiting(db, after=after, limit=ROWS)
        read: list[tuple[Row, list[News], str | None]] = []
        count = 0
        for row in rows:
            after = row["id"]
            reader = self._readers(row["account_id"])
            if reader is None:
                continue
            news, error = _read(reader, row["body"])
            read.append((row, news, error))
            count += len(news)
            if count >= HELD:
                break
        if not read:
            return Applied(), after if rows else 0
        try:
            return self._together(db, read), after
        except database.OperationalError:
            raise
        except Exception:  # noqa: BLE001  # one odd item must not lose the others
            applied = Applied()
            for row, news, error in read:
                applied += self._one_by_one(db, row, news, error)
            return applied, after

    def _together(
        self, db: Connection, read: Sequence[tuple[Row, list[News], str | None]]
    ) -> Applied:
        at = text(self._clock.micros())
        applied = Applied()
        with database.immediate(db):
            by_account: dict[int, list[News]] = {}
            for row, news, error in read:
                # Another process may have been faster since we looked.
                if inbox.done(db, row["id"], at=at, error=error):
                    by_account.setdefault(row["account_id"], []).extend(_unseen(db, row, news))
            for account, news in by_account.items():
                applied += self._apply(db, account, news, at)
            failpoint("in-apply")
        return applied

    def _one_by_one(
        self, db: Connection, row: Row, news: Sequence[News], error: str | None
    ) -> Applied:
        at = text(self._clock.micros())
        applied = Applied()
        wrong = [error] if error else []
        with database.immediate(db):
            if not inbox.done(db, row["id"], at=at, error=error):
                return applied
            for item in _unseen(db, row, news):
                db.execute("savepoint item")
                try:
                    applied += self._apply(db, row["account_id"], [item], at)
                except database.OperationalError:
                    raise
                except Exception as exc:  # noqa: BLE001  # told in the row, which is kept
                    db.execute("rollback to item")
                    wrong.append(f"{type(item).__name__}: {type(exc).__name__}: {exc}")
                db.execute("release item")
            if wrong:
                inbox.blame(db, row["id"], "; ".join(wrong))
        return applied

    def _apply(self, db: Connection, account: int, news: Sequence[News], at: str) -> Applied:
        return receipts.apply(
            db, account, news, at=at, trace=self._trace, reply_window=self._window
        )


def _read(reader: Reader, body: bytes) -> tuple[list[News], str | None]:
    """A body's news, or why it cannot be read."""
    decode: Callable[[bytes], Any] = getattr(reader, "decode", json.loads)
    try:
        return reader.parse(decode(body)), None
    except Exception as exc:  # noqa: BLE001  # a stranger wrote it, a plugin may parse it
        return [], f"cannot be read: {type(exc).__name__}: {exc}"[:500]


def _unseen(db: Connection, row: Row, news: list[News] | Sequence[News]) -> Sequence[News]:
    """Without what has no id of its own, where the same body has told it before."""
    nameless = any(isinstance(item, TemplateNews | AccountNews) for item in news)
    if not nameless or not inbox.seen(db, row):
        return news
    return [item for item in news if not isinstance(item, TemplateNews | AccountNews)]


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


Answer = Callable[[int], None]


@dataclass(slots=True)
class _Post:
    account: int
    body: bytes | None
    answer: Answer
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

        def answer(status: int) -> None:
            loop.call_soon_threadsafe(_resolve, future, status)

        self.start()
        self._posts.put(_Post(account, body, answer, whole))
        return await future

    def _run(self) -> None:
        db: Connection | None = None
        owed: list[_Post] = []
        wait, after, last = 0.0, 0, False
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
                wait = FOREVER if db is not None and not owed else RETRY
                continue
            _answer([post for post in posts if not post.whole], OK)
            owed += [post for post in posts if post.whole]
            if last:
                break
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
            for account, body in bodies:
                inbox.keep(db, account, body, at=at)
        failpoint("after-inbox")


def _resolve(future: asyncio.Future[int], status: int) -> None:
    if not future.cancelled():
        future.set_result(status)


def _answer(posts: Sequence[_Post], status: int) -> None:
    for post in posts:
        with suppress(RuntimeError):  # its loop is gone, and so is whoever asked
            post.answer(status)
