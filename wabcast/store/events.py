"""The log of what happened. A row is written in the transaction of what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wabcast.clock import text
from wabcast.events import ACCOUNT_COOLDOWN, Event

if TYPE_CHECKING:
    from wabcast.store.database import Connection

ADD = """
insert into events (at, event, campaign_id, data, actor)
values (:at, :event, :campaign_id, :data, :actor)
"""

SINCE = """
select id, at, event, campaign_id, data, actor from events
 where id > :since and (:campaign_id is null or campaign_id = :campaign_id)
 order by id limit :limit
"""

ACCOUNT = "select name from accounts where id = :id"

LAST = "select coalesce(max(id), 0) from events"


def add(db: Connection, event: Event, *, at: str, actor: str | None = None) -> int:
    """Write `event` in the caller's transaction; returns its id."""
    row = {
        "at": at,
        "event": event.name,
        "campaign_id": event.campaign_id,
        "data": json.dumps(event.data, ensure_ascii=False, separators=(",", ":")),
        "actor": actor,
    }
    return int(db.execute(ADD, row).lastrowid or 0)


def add_cooldown(db: Connection, account: int, *, until: int, reason: str, at: str) -> int:
    """Tell that nobody on the account (its row) leaves before `until`, in microseconds."""
    name = db.execute(ACCOUNT, {"id": account}).fetchone()[0]
    told = {"account": name, "until": text(until), "reason": reason}
    return add(db, Event(ACCOUNT_COOLDOWN, None, told), at=at)


def since(
    db: Connection, event_id: int, *, campaign_id: str | None = None, limit: int = 500
) -> Iterator[dict[str, Any]]:
    """Events after `event_id`, oldest first, in the shape that `event list` prints."""
    wanted = {"since": event_id, "campaign_id": campaign_id, "limit": limit}
    for row in db.execute(SINCE, wanted).fetchall():
        told = {
            "id": row["id"],
            "at": row["at"],
            "event": row["event"],
            "campaignId": row["campaign_id"],
            "data": json.loads(row["data"]),
        }
        if row["actor"]:
            told["actor"] = row["actor"]
        yield told


def last_id(db: Connection) -> int:
    return int(db.execute(LAST).fetchone()[0])
