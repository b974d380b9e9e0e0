"""Who is told of events over HTTP, and how far each has been told.

What must not break: `last_event_id` moves only forward, and over an event only once it was
taken (a 2xx) or is none that the hook wants. Rows hold a secret's source, never its value.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wabcast.errors import NotFound, Refused
from wabcast.store import events
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

EVERY = """
select id, key, url, secret, events, allow_private, last_event_id, failures, last_error,
       delivered_at, created_at
  from hooks order by id
"""

ADD = """
insert into hooks (key, url, secret, events, allow_private, last_event_id, created_at)
values (:key, :url, :secret, :events, :allow_private, :last_event_id, :at)
"""

POSITION = "select last_event_id from hooks where key = :key"

REMOVE = "delete from hooks where key = :key"

DELIVERED = """
update hooks set last_event_id = :event, failures = 0, last_error = null, delivered_at = :at
 where key = :key and last_event_id < :event
"""

PASSED = "update hooks set last_event_id = :event where key = :key and last_event_id < :event"

FAILED = "update hooks set failures = failures + 1, last_error = :error where key = :key"


@dataclass(frozen=True, slots=True)
class Hook:
    """`events` are patterns as `campaign:*`, none meaning all; `failures` in a row, up to now."""

    id: int
    key: str
    url: str
    secret: str | None
    events: tuple[str, ...]
    allow_private: bool
    last_event_id: int
    failures: int
    last_error: str | None
    delivered_at: str | None
    created_at: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "events": list(self.events)}


def add(
    db: Connection,
    url: str,
    *,
    key: str,
    secret: str | None,
    patterns: tuple[str, ...],
    allow_private: bool,
    since: int | None,
    at: str,
) -> tuple[Hook, bool]:
    """Add a hook that is told what comes after event `since` (None: from now on).

    The row and whether it is new: the same again changes nothing, other settings are Refused.
    """
    with immediate(db):
        old = next((hook for hook in every(db) if hook.url == url), None)
        if old is None:
            start = events.last_id(db) if since is None else since
            row = {"key": key, "url": url, "secret": secret, "last_event_id": start, "at": at}
            row |= {"events": json.dumps(patterns), "allow_private": int(allow_private)}
            db.execute(ADD, row)
            return get(db, url), True
    same = (old.secret, old.events, old.allow_private) == (secret, patterns, allow_private)
    if not same or since is not None:
        raise Refused(
            f"hook {old.id} goes there already, with other settings",
            hint=f"look at it: wabcast hook list; or first: wabcast hook remove {old.id}",
        )
    return old, False


def every(db: Connection) -> list[Hook]:
    return [_hook(row) for row in db.execute(EVERY).fetchall()]


def get(db: Connection, name: str) -> Hook:
    """By its number or its URL; else NotFound."""
    for hook in every(db):
        if name in (str(hook.id), hook.url):
            return hook
    raise NotFound(f"no hook {name!r}", hint="see: wabcast hook list")


def remove(db: Connection, hook: Hook) -> None:
    db.execute(REMOVE, {"key": hook.key})


def position(db: Connection, key: str) -> int | None:
    """Up to which event the hook has been told; None where it is gone."""
    row = db.execute(POSITION, {"key": key}).fetchone()
    return None if row is None else int(row[0])


def delivered(db: Connection, key: str, event: int, *, at: str) -> bool:
    """Up to `event` it has been told; False where the hook is gone or is further already."""
    return bool(db.execute(DELIVERED, {"key": key, "event": event, "at": at}).rowcount)


def passed(db: Connection, key: str, event: int) -> None:
    """Nothing up to `event` is left to tell it."""
    db.execute(PASSED, {"key": key, "event": event})


def failed(db: Connection, key: str, error: str) -> bool:
    """It was not taken; False where the hook is gone."""
    return bool(db.execute(FAILED, {"key": key, "error": error}).rowcount)


def _hook(row: Row) -> Hook:
    values = dict(row)
    values["events"] = tuple(json.loads(values["events"]))
    values["allow_private"] = bool(values["allow_private"])
    return Hook(**values)
