"""The ledger: `campaign_messages`, and the only code that writes it while a campaign runs.

Every write names the state it expects and the run that holds the campaign; a row that has
moved on is left alone. What may have left is never made pending again here: only a person
(`settle_by_hand`) or a receipt may do that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from wabcast.clock import text, to_micros
from wabcast.delivery import MessageStatus, Settled
from wabcast.failpoints import failpoint
from wabcast.store import reach
from wabcast.store.reach import Cap, Seen

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.store.database import Connection, Row

AT_ONCE = "1970-01-01T00:00:00.000Z"
"""Due, whatever the clock says: one that was set back holds nobody up."""

DUE = """
select m.id, m.contact_id, m.attempts, m.due_at, m.variant,
       c.phone, c.first_name, c.last_name, c.name, c.email, c.company, c.language, c.timezone,
       c.attributes, c.opted_out_at, c.blocked_at
  from campaign_messages m
  left join contacts c on c.id = m.contact_id
 where m.campaign_id = :campaign and m.status = 'pending' and m.due_at <= :now
   and (m.due_at, m.id) > (:after_due_at, :after_id)
 order by m.due_at, m.id
 limit :limit
"""

NEXT_DUE = """
select min(due_at) from campaign_messages where campaign_id = :campaign and status = 'pending'
"""

INTEND = """
update campaign_messages
   set status = 'queued', attempts = attempts + 1, run_id = :run, queued_at = :at,
       content = :content, error_code = null, error_message = null
 where id = :id and status = 'pending'
   and exists (select 1 from campaigns
                where number = :campaign and status = 'running' and run_id = :run)
   and exists (select 1 from contacts
                where id = :contact and opted_out_at is null and blocked_at is null)
returning attempts
"""

MARK_SLOT = """
update campaigns set last_slot_at = max(last_slot_at, :slot) where number = :campaign
"""

HOLDS = """
select 1 from campaigns where number = :campaign and status = 'running' and run_id = :run
"""

BARRED = """
select case when opted_out_at is not null then 'opted out' else 'blocked' end
  from contacts where id = :contact and (opted_out_at is not null or blocked_at is not null)
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

SENT = """
update campaign_messages
   set status = case status when 'queued' then 'sent' else status end,
       whatsapp_message_id = :message_id, sent_at = coalesce(sent_at, :at)
 where id = :id and run_id = :run and attempts = :attempt
   and status in ('queued', 'sent', 'delivered', 'read', 'replied')
"""

NOT_SENT = """
update campaign_messages
   set status = :status, error_code = :code, error_message = :reason,
       attempts = attempts - :give_back,
       due_at = case :status when 'pending' then :due_at else due_at end,
       queued_at = case :status when 'pending' then null else queued_at end,
       failed_at = case :status when 'failed' then :at else failed_at end
 where id = :id and run_id = :run and attempts = :attempt and status = 'queued'
"""

# Left queued by a run that is gone: the message may have left. Say so, and let a receipt or a
# person settle it; sending again is not ours to decide.
TAKE_OVER = """
update campaign_messages
   set status = 'in_doubt', error_code = 'crash',
       error_message = 'the process died while this was on the wire'
 where campaign_id = :campaign and status = 'queued' and run_id is not :run
"""

OPT_OUT = """
update contacts set opted_out_at = :at, opt_out_reason = :reason, updated_at = :at
 where id = :contact and opted_out_at is null
"""


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


class Told(StrEnum):
    """What became of an intent."""

    INTENDED = "intended"
    SKIPPED = "skipped"
    CAPPED = "capped"
    GONE = "gone"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Intended:
    """`attempt` counts from 1 where `told` is INTENDED; `until` is when a full day's cap has
    room again, UTC text."""

    told: Told
    attempt: int = 0
    until: str | None = None


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


def intend(
    db: Connection,
    message: Due,
    *,
    campaign: int,
    run: str,
    content: str,
    slot: int,
    at: datetime,
    cap: Cap | None = None,
    seen: Seen | None = None,
) -> Intended:
    """Commit to sending `message`: after this it may be on the wire. `slot` is when it leaves.

    The opt-out and the pause are checked by the statement itself, in the caller's transaction.
    """
    held = {"campaign": campaign, "run": run}
    if cap is not None:
        full = reach.full(db, cap, message.contact_id, at, seen or Seen())
        if full is not None:
            return Intended(Told.CAPPED, until=full)
    marks = {
        **held,
        "id": message.id,
        "contact": message.contact_id,
        "at": text(at),
        "content": content,
    }
    row = db.execute(INTEND, marks).fetchone()
    if row is not None:
        db.execute(MARK_SLOT, {"campaign": campaign, "slot": slot})
        if cap is not None:
            reach.note(db, cap.account, message.contact_id, at)
        return Intended(Told.INTENDED, attempt=row[0])
    if db.execute(HOLDS, held).fetchone() is None:
        return Intended(Told.STOPPED)
    barred = db.execute(BARRED, {"contact": message.contact_id}).fetchone()
    if barred is None:
        return Intended(Told.GONE)
    skip(db, message.id, campaign=campaign, run=run, code="barred", reason=barred[0])
    return Intended(Told.SKIPPED)


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


def record(
    db: Connection, message: Due, settled: Settled, *, attempt: int, run: str, at: datetime
) -> bool:
    """Write what became of an intent; False where the row has moved on without us."""
    marks: dict[str, Any] = {"id": message.id, "run": run, "attempt": attempt, "at": text(at)}
    if settled.status is MessageStatus.SENT:
        wrote = db.execute(SENT, {**marks, "message_id": settled.message_id}).rowcount
    else:
        marks |= {
            "status": settled.status.value,
            "code": settled.error_code,
            "reason": settled.error_message,
            "give_back": int(settled.give_back),
            "due_at": text(to_micros(at + settled.wait)),
        }
        wrote = db.execute(NOT_SENT, marks).rowcount
    if settled.opt_out:
        told = f"{settled.error_code} {settled.error_message}"
        opt_out(db, message.contact_id, reason=told, at=text(at))
    return bool(wrote)


def opt_out(db: Connection, contact: int, *, reason: str, at: str) -> bool:
    """From now on nothing goes to this contact; False where that was so already."""
    from wabcast.events import CONTACT_OPTED_OUT, Event
    from wabcast.store import events

    changed = db.execute(OPT_OUT, {"contact": contact, "reason": reason, "at": at}).rowcount
    if changed:
        phone = db.execute("select phone from contacts where id = ?", (contact,)).fetchone()[0]
        events.add(db, Event(CONTACT_OPTED_OUT, None, {"phone": phone, "reason": reason}), at=at)
    return bool(changed)


def take_over(db: Connection, campaign: int, run: str) -> int:
    """Put what a dead run left on the wire in doubt; how many."""
    changed = int(db.execute(TAKE_OVER, {"campaign": campaign, "run": run}).rowcount)
    failpoint("in-takeover")
    return changed


RETRY = """
update campaign_messages
   set status = 'pending', due_at = :at_once, failed_at = null, sent_at = null,
       whatsapp_message_id = null
 where campaign_id = :campaign and status = 'failed'
   and (:codes is null or error_code in (select value from json_each(:codes)))
   and contact_id is not null
"""

FAILED_CODES = """
select error_code, count(*) from campaign_messages
 where campaign_id = :campaign and status = 'failed' group by error_code
"""

SETTLE_SENT = """
update campaign_messages
   set status = 'sent', sent_at = coalesce(sent_at, queued_at, :at), error_code = null,
       error_message = 'settled by hand as sent'
 where campaign_id = :campaign and status = 'in_doubt'
"""

SETTLE_FAILED = """
update campaign_messages
   set status = 'failed', failed_at = :at, error_code = 'settled',
       error_message = 'settled by hand as failed'
 where campaign_id = :campaign and status = 'in_doubt'
"""

SETTLE_PENDING = """
update campaign_messages
   set status = 'pending', due_at = :at_once, error_code = null, error_message = null
 where campaign_id = :campaign and status = 'in_doubt' and contact_id is not null
"""

CANCEL = """
update campaign_messages
   set status = 'skipped', error_code = 'cancelled', error_message = 'campaign cancelled'
 where campaign_id = :campaign and status = 'pending'
"""


def retry(db: Connection, campaign: int, *, codes: Sequence[str] | None) -> int:
    """Failed messages with one of `codes` (None: all) become pending again; how many."""
    listed = None if codes is None else json.dumps(list(codes))
    wanted = {"campaign": campaign, "codes": listed, "at_once": AT_ONCE}
    return int(db.execute(RETRY, wanted).rowcount)


def failed_codes(db: Connection, campaign: int) -> dict[str, int]:
    """How many failed with which code."""
    return {row[0] or "": row[1] for row in db.execute(FAILED_CODES, {"campaign": campaign})}


def settle_by_hand(db: Connection, campaign: int, outcome: MessageStatus, *, at: str) -> int:
    """A person decides the ones in doubt: as sent, failed, or to be sent again; how many."""
    statement = {
        MessageStatus.SENT: SETTLE_SENT,
        MessageStatus.FAILED: SETTLE_FAILED,
        MessageStatus.PENDING: SETTLE_PENDING,
    }[outcome]
    wanted = {"campaign": campaign, "at": at, "at_once": AT_ONCE}
    return int(db.execute(statement, wanted).rowcount)


def cancel(db: Connection, campaign: int) -> int:
    """What is still pending will not be sent; how many."""
    return int(db.execute(CANCEL, {"campaign": campaign}).rowcount)
