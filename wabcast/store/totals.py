"""The numbers of the whole file, for whoever watches it. Reads only, in one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wabcast.store.database import Connection

CAMPAIGNS = """
select status, count(*) from campaigns where test_of is null group by status order by status
"""

# Sums may fall when a campaign is deleted, so these are gauges.
MESSAGES = """
select a.name, sum(c.pending), sum(c.queued), sum(c.in_doubt), sum(c.skipped),
       sum(c.messages_sent), sum(c.messages_delivered), sum(c.messages_read),
       sum(c.messages_replied), sum(c.messages_failed)
  from campaigns c join accounts a on a.id = c.account_id
 where c.test_of is null group by a.id order by a.name
"""

STATES = ("pending", "queued", "in_doubt", "skipped", "sent", "delivered", "read", "replied")

CONTACTS = """
select count(*), count(opted_out_at), count(blocked_at) from contacts where listed = 1
"""

WAITING = "select count(*) from webhook_inbox where applied_at is null"

ACCOUNTS = "select name, cooling_until, halted_reason is not null from accounts order by name"

EVENTS = "select coalesce(max(id), 0) from events"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples: labels, value."""

    name: str
    help: str
    kind: str
    samples: list[tuple[dict[str, str], float]]


def read(db: Connection) -> list[Family]:
    """Everything that is told, by the names that stay."""
    db.execute("begin")
    try:
        return _read(db)
    finally:
        db.execute("rollback")


def _read(db: Connection) -> list[Family]:
    states = (*STATES, "failed")
    messages: list[tuple[dict[str, str], float]] = [
        ({"account": row[0], "state": state}, count)
        for row in db.execute(MESSAGES)
        for state, count in zip(states, tuple(row)[1:], strict=True)
    ]
    campaigns: list[tuple[dict[str, str], float]] = [
        ({"status": row[0]}, row[1]) for row in db.execute(CAMPAIGNS)
    ]
    people = tuple(db.execute(CONTACTS).fetchone())
    accounts = db.execute(ACCOUNTS).fetchall()
    contacts: list[tuple[dict[str, str], float]] = [
        ({"state": state}, count)
        for state, count in zip(("all", "opted_out", "blocked"), people, strict=True)
    ]
    waiting = db.execute(WAITING).fetchone()[0]
    last = db.execute(EVENTS).fetchone()[0]
    return [
        Family("wabcast_campaigns", "Campaigns by status.", "gauge", campaigns),
        Family(
            "wabcast_messages",
            "Messages by state; delivered ones count as sent, read ones as delivered.",
            "gauge",
            messages,
        ),
        Family("wabcast_contacts", "People, those opted out, those blocked.", "gauge", contacts),
        Family("wabcast_webhooks_waiting", "Bodies not applied yet.", "gauge", [({}, waiting)]),
        Family("wabcast_events_total", "Events ever written.", "counter", [({}, last)]),
        Family(
            "wabcast_account_cooling_until_seconds",
            "When the account may send again, since the epoch; 0: never cooled.",
            "gauge",
            [({"account": row[0]}, row[1] / 1_000_000) for row in accounts],
        ),
        Family(
            "wabcast_account_halted",
            "1 where WhatsApp has stopped the account.",
            "gauge",
            [({"account": row[0]}, row[2]) for row in accounts],
        ),
    ]
