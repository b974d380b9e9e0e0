"""The ledger: `campaign_messages`, and the only code that writes it while a campaign runs.

Every write names the state it expects and the run that holds the campaign; a row that has
moved on is left alone. What may have left is never made pending again here: only a person
(`decisions.settle`) or a receipt may do that. The two marks around a request are in `marks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wabcast.campaign import CampaignStatus
from wabcast.clock import parse, text
from wabcast.failpoints import failpoint

if TYPE_CHECKING:
    from datetime import timedelta

    from wabcast.store.database import Connection, Row

OWED_BY: Mapping[CampaignStatus, tuple[str, str]] = {
    CampaignStatus.CANCELLED: ("cancelled", "campaign cancelled"),
    CampaignStatus.FAILED: ("campaign_failed", "the campaign failed before their turn"),
}
"""Why those are skipped whom a campaign that is over owed a message: code and reason."""

AT_ONCE = "1970-01-01T00:00:00.000Z"
"""Due, whatever the clock says: one that was set back holds nobody up."""

_DUE = """
select m.id, m.contact_id, m.attempts, m.due_at, m.variant,
       c.phone, c.first_name, c.last_name, c.name, c.email, c.company, c.language, c.timezone,
       c.attributes, c.opted_out_at, c.blocked_at
  from campaign_messages m
  left join contacts c on c.id = m.contact_id
 where m.campaign_id = :campaign and m.status = 'pending' and m.due_at <= :now
"""

# Together `(due_at, id) > (:after_due_at, :after_id)`. Written so, SQLite would seek the time
# alone: a million that are due at once would be walked through from the first, page by page.
DUE = _DUE + " and m.due_at = :after_due_at and m.id > :after_id order by m.id limit :limit"
DUE_LATER = _DUE + " and m.due_at > :after_due_at order by m.due_at, m.id limit :limit"

NEXT_DUE = """
select min(due_at) from campaign_messages where campaign_id = :campaign and status = 'pending'
"""

SKIP = """
update campaign_messages set status = 'skipped', error_code = :code, error_message = :reason
 where id = :id and status = 'pending'
   and exists (select 1 from campaigns where number = :campaign and run_id = :run)
"""

FAIL = """
update campaign_messages
   set status = 'failed', error_code = :code, error_message = :reason, failed_at = :at
 where id = :id and status = 'pending'
   and exists (select 1 from campaigns where number = :campaign and run_id = :run)
"""

POSTPONE = """
update campaign_messages set due_at = :due_at
 where id = :id and status = 'pending'
   and exists (select 1 from campaigns where number = :campaign and run_id = :run)
"""

# Left queued by a run that is gone: the message may have left. Say so, and let a receipt or a
# person settle it; sending again is not ours to decide.
TAKE_OVER = """
update campaign_messages
   set status = 'in_doubt', error_code = 'crash',
       error_message = 'the process died while this was on the wire'
 where campaign_id = :campaign and status = 'queued' and run_id is not :run
"""

LET_GO = """
update campaigns set run_id = null, holding = null where number = :campaign and run_id = :run
"""

OPT_OUT = """
update contacts set opted_out_at = :at, opt_out_reason = :reason, updated_at = :at
 where id = :contact and opted_out_at is null
"""


KNOWN = "select 1 from contacts where id = :contact"


@dataclass(frozen=True, slots=True)
class Due:
    """A message owed, and the person it is owed to (columns of `contacts`)."""

    id: int
    contact_id: int
    attempts: int
    due_at: str
    variant: str | None
    phone: str
    barred: str | None
    person: Row


def due(
    db: Connection, campaign: int, *, now: str, after: tuple[str, int], limit: int
) -> list[Due]:
    """The next messages that may go, by keyset: at most `limit` after `after` (due_at, id)."""
    wanted = {
        "campaign": campaign,
        "now": now,
        "after_due_at": after[0],
        "after_id": after[1],
        "limit": limit,
    }
    rows = db.execute(DUE, wanted).fetchall()
    if len(rows) < limit:
        wanted["limit"] = limit - len(rows)
        rows += db.execute(DUE_LATER, wanted).fetchall()
    return [
        Due(
            row["id"],
            row["contact_id"],
            row["attempts"],
            row["due_at"],
            row["variant"],
            row["phone"] or "",
            _barred(row),
            row,
        )
        for row in rows
    ]


def _barred(row: Row) -> str | None:
    if row["phone"] is None:
        return "contact removed"
    if row["opted_out_at"]:
        return "opted out"
    return "blocked" if row["blocked_at"] else None


def next_due(db: Connection, campaign: int) -> str | None:
    """When the earliest pending message is due; None where none is pending."""
    value = db.execute(NEXT_DUE, {"campaign": campaign}).fetchone()[0]
    return str(value) if value else None


def skip(db: Connection, message: int, *, campaign: int, run: str, code: str, reason: str) -> None:
    """Owed, but not to be sent: pending → skipped."""
    marks = {"id": message, "campaign": campaign, "run": run, "code": code, "reason": reason}
    db.execute(SKIP, marks)


def fail(
    db: Connection, message: int, *, campaign: int, run: str, code: str, reason: str, at: str
) -> None:
    """It cannot be said to this person: pending → failed, nothing left."""
    marks = {"id": message, "campaign": campaign, "run": run, "code": code, "reason": reason}
    db.execute(FAIL, {**marks, "at": at})


def postpone(db: Connection, message: int, *, campaign: int, run: str, due_at: str) -> None:
    """Not now for this person (their window is closed): due later."""
    db.execute(POSTPONE, {"id": message, "campaign": campaign, "run": run, "due_at": due_at})


DEFERRED = """
select id, due_at from campaign_messages
 where campaign_id = :campaign and status = 'pending' and error_code is not null
   and (due_at, id) > (:after_due_at, :after_id)
 order by due_at, id limit :limit
"""

BRING_FORWARD = """
update campaign_messages as m set due_at = d.value ->> 1
  from json_each(:due) as d
 where m.id = d.value ->> 0 and m.status = 'pending'
   and exists (select 1 from campaigns where number = :campaign and run_id = :run)
"""


def bring_forward(
    db: Connection, campaign: int, *, run: str, by: timedelta, after: tuple[str, int], limit: int
) -> tuple[str, int] | None:
    """Have those who were deferred to later than `after` (due_at, id) due earlier `by` so much, as
    the clock was set back by it: at most `limit`. The last of them, where there may be more."""
    wanted = {
        "campaign": campaign,
        "after_due_at": after[0],
        "after_id": after[1],
        "limit": limit,
    }
    rows = db.execute(DEFERRED, wanted).fetchall()
    due = [(row["id"], text(parse(row["due_at"]) - by)) for row in rows]
    db.execute(BRING_FORWARD, {"campaign": campaign, "run": run, "due": json.dumps(due)})
    return (rows[-1]["due_at"], rows[-1]["id"]) if len(rows) == limit else None


def opt_out(db: Connection, contact: int, *, reason: str, at: str) -> bool:
    """From now on nothing goes to this contact; False where that was so already."""
    from wabcast.events import CONTACT_OPTED_OUT, Event
    from wabcast.store import events

    changed = db.execute(OPT_OUT, {"contact": contact, "reason": reason, "at": at}).rowcount
    if changed:
        phone = db.execute("select phone from contacts where id = ?", (contact,)).fetchone()[0]
        events.add(db, Event(CONTACT_OPTED_OUT, None, {"phone": phone, "reason": reason}), at=at)
    return bool(changed)


def is_known(db: Connection, contact: int) -> bool:
    """Whether the contact is still there."""
    return db.execute(KNOWN, {"contact": contact}).fetchone() is not None


def take_over(db: Connection, campaign: int, run: str) -> int:
    """Put what a dead run left on the wire in doubt; how many."""
    changed = int(db.execute(TAKE_OVER, {"campaign": campaign, "run": run}).rowcount)
    failpoint("in-takeover")
    return changed


def let_go(db: Connection, campaign: int, run: str) -> None:
    """The run is over and the campaign nobody's; what it could not record is in doubt."""
    if db.execute(LET_GO, {"campaign": campaign, "run": run}).rowcount:
        take_over(db, campaign, "")
