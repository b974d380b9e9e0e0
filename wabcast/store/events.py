"""The log of what happened. A row is written in the transaction of what it tells.

What a reader must not break: ids are given inside write transactions, of which SQLite has one
at a time, and are never given twice. So whoever has read up to an id has missed nothing before
it, whatever other processes write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wabcast.clock import text
from wabcast.events import ACCOUNT_COOLDOWN, Event

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

acting: ContextVar[str | None] = ContextVar("acting", default=None)
"""Who does what is done in this context: the shell's user, or the name of a token."""

ADD = """
insert into events (at, event, campaign_id, data, actor)
values (:at, :event, :campaign_id, :data, :actor)
"""

SINCE = """
select id, at, event, campaign_id, data, actor from events
 where id > :since and (:names is null or event in (select value from json_each(:names)))
 order by id limit :limit
"""

# A statement of its own: behind an `or` SQLite would not take the index of the campaign.
SINCE_OF_CAMPAIGN = """
select id, at, event, campaign_id, data, actor from events
 where campaign_id = :campaign_id and id > :since
   and (:names is null or event in (select value from json_each(:names)))
 order by id limit :limit
"""

NEWEST = """
select id, at, event, campaign_id, data, actor from events
 where id <= :up_to and (:names is null or event in (select value from json_each(:names)))
 order by id desc limit :limit
"""

NEWEST_OF_CAMPAIGN = """
select id, at, event, campaign_id, data, actor from events
 where campaign_id = :campaign_id and id <= :up_to
   and (:names is null or event in (select value from json_each(:names)))
 order by id desc limit :limit
"""

COUNT = """
select count(*) from events
 where id > :since and (:names is null or event in (select value from json_each(:names)))
"""

ACCOUNT = "select name from accounts where id = :id"

LAST = "select coalesce(max(id), 0) from events"

TOLD_OF = "select 1 from events where campaign_id = :campaign_id limit 1"

VERSION = "pragma data_version"


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the log, in the shape that `event list` prints; `seen`: nothing more up to there."""

    events: list[dict[str, Any]]
    seen: int
    whole: bool
    """Whether this was all there was."""


def add(db: Connection, event: Event, *, at: str, actor: str | None = None) -> int:
    """Write `event` in the caller's transaction; returns its id. `actor` None: who is `acting`."""
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    row = {
        "at": at,
        "event": event.name,
        "campaign_id": event.campaign_id,
        # Half a character, in some server's words, is no reason to lose what they tell.
        "data": data.encode("utf-8", "replace").decode(),
        "actor": actor or acting.get(),
    }
    return int(db.execute(ADD, row).lastrowid or 0)


def add_cooldown(db: Connection, account: int, *, until: int, reason: str, at: str) -> int:
    """Tell that nobody on the account (its row) leaves before `until`, in microseconds."""
    name = db.execute(ACCOUNT, {"id": account}).fetchone()[0]
    told = {"account": name, "until": text(until), "reason": reason}
    return add(db, Event(ACCOUNT_COOLDOWN, None, told), at=at)


def since(
    db: Connection,
    event_id: int,
    *,
    campaign_id: str | None = None,
    names: Iterable[str] | None = None,
    limit: int = 500,
) -> Iterator[dict[str, Any]]:
    """Events after `event_id`, oldest first; `names` None: whatever they are called."""
    wanted = {"since": event_id, "campaign_id": campaign_id, "names": _listed(names)}
    statement = SINCE if campaign_id is None else SINCE_OF_CAMPAIGN
    yield from map(_told, db.execute(statement, {**wanted, "limit": limit}).fetchall())


def page(
    db: Connection,
    event_id: int,
    *,
    campaign_id: str | None = None,
    names: Iterable[str] | None = None,
    limit: int = 500,
) -> Page:
    """The next events after `event_id`, and how far the log has been looked through.

    Go on from `seen`: what was passed over is not looked at again.
    """
    db.execute("begin")  # rows and end of one moment
    try:
        events = list(since(db, event_id, campaign_id=campaign_id, names=names, limit=limit))
        last = last_id(db)
    finally:
        db.execute("rollback")
    if len(events) == limit:
        return Page(events, int(events[-1]["id"]), whole=False)
    return Page(events, max(last, event_id), whole=True)


def newest(
    db: Connection,
    count: int,
    *,
    up_to: int,
    campaign_id: str | None = None,
    names: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """The last `count` events that are no later than `up_to`, oldest first."""
    wanted = {"up_to": up_to, "campaign_id": campaign_id, "names": _listed(names), "limit": count}
    statement = NEWEST if campaign_id is None else NEWEST_OF_CAMPAIGN
    return [_told(row) for row in db.execute(statement, wanted).fetchall()][::-1]


def count_since(db: Connection, event_id: int, names: Iterable[str] | None = None) -> int:
    return int(db.execute(COUNT, {"since": event_id, "names": _listed(names)}).fetchone()[0])


def last_id(db: Connection) -> int:
    return int(db.execute(LAST).fetchone()[0])


def told_of(db: Connection, campaign_id: str) -> bool:
    """Whether the log knows a campaign of this id, be it deleted since."""
    return db.execute(TOLD_OF, {"campaign_id": campaign_id}).fetchone() is not None


def version(db: Connection) -> int:
    """Another number whenever another connection has committed. Costs next to nothing.

    Ask before reading: what is committed in between then shows as one more look.
    """
    return int(db.execute(VERSION).fetchone()[0])


def _listed(names: Iterable[str] | None) -> str | None:
    return None if names is None else json.dumps(list(names))


def _told(row: Row) -> dict[str, Any]:
    told = {
        "id": row["id"],
        "at": row["at"],
        "event": row["event"],
        "campaignId": row["campaign_id"],
        "data": json.loads(row["data"]),
    }
    if row["actor"]:
        told["actor"] = row["actor"]
    return told
