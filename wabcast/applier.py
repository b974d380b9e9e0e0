"""Bodies out of the inbox into the ledger: parsed before a transaction is begun, written in short
ones.

What must not break: a body is marked as applied in the transaction of what it did, or of the
last part of it; receipts alone may go in parts, since a second time they change nothing. And the
senders come first: the file is theirs for longer than we have just had it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from wabcast.clock import SECOND, Clock, text
from wabcast.failpoints import failpoint
from wabcast.receipts import AccountNews, Inbound, News, Receipt, TemplateNews
from wabcast.store import database, events, inbox, parked, receipts
from wabcast.store.receipts import Applied
from wabcast.untrusted import clean, load_json

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

ALONE, SHARED = 1000, 150
"""About so many pieces of news share a transaction: alone, and while others write the file."""

YIELD, LONGEST_PAUSE = 3, 0.05
"""How many times as long as a turn the file is then left to others; seconds, at most."""


class Reader(Protocol):
    """What is needed of a provider. One with `redact(body) -> bytes` has its secrets out of a
    body before that is kept."""

    def parse(self, payload: Mapping[str, Any]) -> list[News]: ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool: ...


Readers = Callable[[int], Reader | None]
"""The reader of an account's bodies, by the account's id; None: they have to wait."""


class Applier:
    """Applies the bodies that wait in the inbox: parsed first, then written in one transaction."""

    def __init__(
        self, clock: Clock, readers: Readers, *, trace: bool, reply_window: timedelta
    ) -> None:
        self._clock = clock
        self._version = 0
        self._share = SHARED
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
            more = parked.any_for(db, account)
            while more:
                at = text(self._clock.micros())
                with self._turn(db):
                    found = receipts.apply_parked(
                        db, account, at=at, trace=self._trace, reply_window=self._window
                    )
                applied += found
                more = found.changed > 0
        return applied

    def some(self, db: Connection, after: int = 0) -> tuple[Applied, int]:
        """Apply a batch of the bodies after the id `after`; the last one's id, 0: none waited."""
        version = events.version(db)  # another one when others have written since we looked
        self._share = ALONE if version == self._version else SHARED
        self._version = version
        read: list[tuple[Row, Sequence[News], str | None]] = []
        count = last = 0
        with closing(inbox.waiting(db, after=after, limit=self._share)) as rows:
            for row in rows:
                last = row["id"]
                reader = self._readers(row["account_id"])
                if reader is None:
                    continue
                news, error = _read(reader, row["body"])
                read.append((row, news, error))
                count += len(news)
                if count >= self._share:
                    break
        if not read:
            return Applied(), last
        try:
            applied, read[-1] = self._but_the_last_part(db, read[-1])
            return self._together(db, read, applied), last
        except database.OperationalError:
            raise
        except Exception:  # noqa: BLE001  # one odd item must not lose the others
            applied = Applied()
            for row, items, wrong in read:
                applied += self._one_by_one(db, row, items, wrong)
            return applied, last

    @contextmanager
    def _turn(self, db: Connection) -> Iterator[None]:
        """A transaction, and then the file left to the others, where there are any, for longer
        than it took. They wait for SQLite's one write lock in steps that grow: a short turn that is
        not followed by the next at once costs them next to nothing."""
        began = self._clock.steady()
        with database.immediate(db):
            yield
        if self._share == SHARED:
            took = (self._clock.steady() - began) / SECOND
            self._clock.pause(min(YIELD * took, LONGEST_PAUSE))

    def _but_the_last_part(
        self, db: Connection, one: tuple[Row, Sequence[News], str | None]
    ) -> tuple[Applied, tuple[Row, Sequence[News], str | None]]:
        """Apply a body of many receipts in short turns, all but its last part; that is left."""
        row, news, error = one
        applied = Applied()
        if not all(isinstance(item, Receipt) for item in news):
            return applied, one
        while len(news) > 2 * self._share:
            part, news = news[: self._share], news[self._share :]
            with self._turn(db):
                applied += self._apply(db, row["account_id"], part, text(self._clock.micros()))
            failpoint("in-part")
        return applied, (row, news, error)

    def _together(
        self,
        db: Connection,
        read: Sequence[tuple[Row, Sequence[News], str | None]],
        applied: Applied,
    ) -> Applied:
        """Apply all of `read` in one turn, after `applied`, which its last body has begun with."""
        at = text(self._clock.micros())
        with self._turn(db):
            batches: dict[tuple[int, bool], list[News]] = {}
            # Another process may have been faster since we looked.
            ours = inbox.done_all(db, [(row["id"], error) for row, _, error in read], at=at)
            for row, news, _ in read:
                if row["id"] in ours:
                    whose = row["account_id"], bool(row["erased"])
                    batches.setdefault(whose, []).extend(_unseen(db, row, news))
            for (account, erased), theirs in batches.items():
                applied += self._apply(db, account, theirs, at, erased=erased)
            done = [(row, news) for row, news, _ in read if row["id"] in ours]
            inbox.forget(db, [row["id"] for row, news in done if _names_erased(row, news, applied)])
            failpoint("in-apply")
        failpoint("after-apply")
        return applied

    def _one_by_one(
        self, db: Connection, row: Row, news: Sequence[News], error: str | None
    ) -> Applied:
        at = text(self._clock.micros())
        applied = Applied()
        wrong = [error] if error else []
        with self._turn(db):
            if not inbox.done(db, row["id"], at=at, error=error):
                return applied
            for item in _unseen(db, row, news):
                db.execute("savepoint item")
                try:
                    applied += self._apply(
                        db, row["account_id"], [item], at, erased=bool(row["erased"])
                    )
                except database.OperationalError:
                    raise
                except Exception as exc:  # noqa: BLE001  # told in the row, which is kept
                    db.execute("rollback to item")
                    wrong.append(f"{type(item).__name__}: {type(exc).__name__}: {exc}")
                db.execute("release item")
            if wrong:
                inbox.blame(db, row["id"], "; ".join(wrong))
            if _names_erased(row, news, applied):
                inbox.forget(db, [row["id"]])
        return applied

    def _apply(
        self,
        db: Connection,
        account: int,
        news: Sequence[News],
        at: str,
        *,
        erased: bool = False,
    ) -> Applied:
        return receipts.apply(
            db,
            account,
            news,
            at=at,
            trace=self._trace,
            reply_window=self._window,
            erased=erased,
        )


def _read(reader: Reader, body: bytes) -> tuple[list[News], str | None]:
    """A body's news, or why it cannot be read."""
    decode: Callable[[bytes], Any] | None = getattr(reader, "decode", None)
    try:
        payload = load_json(body) if decode is None else clean(decode(body))
        return reader.parse(payload), None
    except Exception as exc:  # noqa: BLE001  # a stranger wrote it, a plugin may parse it
        return [], f"cannot be read: {type(exc).__name__}: {exc}"[:500]


def _names_erased(row: Row, news: Sequence[News], applied: Applied) -> bool:
    """Whether a body tells of somebody who was erased, before or after it came."""
    return bool(row["erased"]) or (
        bool(applied.nameless)
        and any(
            isinstance(item, Receipt | Inbound) and item.message_id in applied.nameless
            for item in news
        )
    )


def _unseen(db: Connection, row: Row, news: Sequence[News]) -> Sequence[News]:
    """Without what has no id of its own, where the same body has told it before."""
    nameless = any(isinstance(item, TemplateNews | AccountNews) for item in news)
    if not nameless or not inbox.seen(db, row):
        return news
    return [item for item in news if not isinstance(item, TemplateNews | AccountNews)]
