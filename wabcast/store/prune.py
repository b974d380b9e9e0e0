"""Forgetting what is old: words and logs go, what became of everybody stays.

What must not break: counters, statuses and times are kept, and so is every wish to stop or to
hear more, because the order of those decides who may be written to. It goes in small
transactions, so that whoever sends meanwhile hardly notices.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from wabcast import optout
from wabcast.store import inbox, parked
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.store.database import Connection

COUNT_BODIES = "select count(*) from webhook_inbox where applied_at < :before"
COUNT_PARKED = "select count(*) from parked_receipts where parked_at < :before"

FINISHED = """
select number from campaigns
 where status in ('completed', 'failed', 'cancelled') and completed_at < :before
 order by number
"""

COUNT_SAID = """
select count(*) from campaign_messages
 where content is not null
   and campaign_id in (select number from campaigns
                        where status in ('completed', 'failed', 'cancelled')
                          and completed_at < :before)
"""

# The campaign is looked at again: a person may have reopened it since.
BLANK_SAID = """
update campaign_messages set content = null
 where id in (select m.id from campaign_messages m
               where m.campaign_id = :number and m.content is not null limit :limit)
   and exists (select 1 from campaigns
                where number = :number and completed_at < :before
                  and status in ('completed', 'failed', 'cancelled'))
"""

WRITTEN = """
select id, content from inbound_messages
 where id > :after and received_at < :before and content is not null and kind <> :preference
 order by id limit :limit
"""

BLANK_WRITTEN = """
update inbound_messages set content = null where id in (select value from json_each(:ids))
"""

# What a hook has not heard yet is kept for it: at least once.
OLD_EVENTS = """
select coalesce(max(id), 0) from events
 where at < :before and id <= coalesce((select min(last_event_id) from hooks), id)
"""
COUNT_EVENTS = "select count(*) from events where id <= :last and at < :before"
FORGET_EVENTS = """
delete from events
 where id in (select id from events where id <= :last and at < :before order by id limit :limit)
"""

AT_ONCE = 1000
"""Rows of a transaction."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many: `webhooks` and parked `receipts` deleted, `messages` of ours and `replies`
    blanked, `events` deleted."""

    webhooks: int = 0
    receipts: int = 0
    messages: int = 0
    replies: int = 0
    events: int = 0

    def __bool__(self) -> bool:
        return any((self.webhooks, self.receipts, self.messages, self.replies, self.events))


def look(db: Connection, *, before: str) -> Pruned:
    """What `prune` would forget now."""
    given = {"before": before}
    last = _last_event(db, before)
    return Pruned(
        webhooks=int(db.execute(COUNT_BODIES, given).fetchone()[0]),
        receipts=int(db.execute(COUNT_PARKED, given).fetchone()[0]),
        messages=int(db.execute(COUNT_SAID, given).fetchone()[0]),
        replies=_replies(db, before, blank=False),
        events=int(db.execute(COUNT_EVENTS, {**given, "last": last}).fetchone()[0]),
    )


def prune(
    db: Connection, *, before: str, tick: Callable[[int], None] = lambda _count: None
) -> Pruned:
    """Forget what is older than `before` (UTC text); `tick` hears how many rows at a time.

    Bodies are those applied before then, messages those of campaigns finished before then.
    The file does not shrink by it; the room is used again, or given back by a vacuum.
    """
    last = _last_event(db, before)
    return Pruned(
        webhooks=_repeat(db, lambda: inbox.prune(db, before=before, limit=AT_ONCE), tick),
        receipts=_once(db, lambda: parked.prune(db, before=before), tick),
        messages=sum(
            _repeat(db, partial(_blank_said, db, row[0], before), tick)
            for row in db.execute(FINISHED, {"before": before}).fetchall()
        ),
        replies=_replies(db, before, blank=True, tick=tick),
        events=_repeat(db, lambda: _forget_events(db, last, before), tick),
    )


def _blank_said(db: Connection, number: int, before: str) -> int:
    given = {"number": number, "before": before, "limit": AT_ONCE}
    return int(db.execute(BLANK_SAID, given).rowcount)


def _forget_events(db: Connection, last: int, before: str) -> int:
    given = {"last": last, "before": before, "limit": AT_ONCE}
    return int(db.execute(FORGET_EVENTS, given).rowcount)


def _last_event(db: Connection, before: str) -> int:
    return int(db.execute(OLD_EVENTS, {"before": before}).fetchone()[0])


def _replies(
    db: Connection,
    before: str,
    *,
    blank: bool,
    tick: Callable[[int], None] = lambda _count: None,
) -> int:
    """What people wrote, but for their wishes; by keyset, for those stay where they are."""
    count = after = 0
    while True:
        given = {"after": after, "before": before, "limit": AT_ONCE}
        rows = db.execute(WRITTEN, {**given, "preference": inbox.PREFERENCE}).fetchall()
        if not rows:
            return count
        after = rows[-1]["id"]
        ids = [row["id"] for row in rows if optout.wish(row["content"]) is None]
        if blank and ids:
            with immediate(db):
                db.execute(BLANK_WRITTEN, {"ids": json.dumps(ids)})
            tick(len(ids))
        count += len(ids)


def _repeat(db: Connection, some: Callable[[], int], tick: Callable[[int], None]) -> int:
    total = 0
    while count := _once(db, some, tick):
        total += count
    return total


def _once(db: Connection, some: Callable[[], int], tick: Callable[[int], None]) -> int:
    with immediate(db):
        count = some()
    tick(count)
    return count
